"""Routers that were fitted: plain numbers in a safe file, their folds, and how they fare on other images.

Knows nothing about boxes or labels; a task makes the features, the rewards and the scores.
"""
