"""Training of any network: the loop, its state on disk, its optimiser. Knows nothing about boxes or labels.

A task makes a `loop.Learner` of its network, its pictures and its loss.
"""
