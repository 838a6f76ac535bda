"""Weights: where they come from, that they are whole, and that reading them runs no code.

`finding` turns a name or a path into a file, `reading` a file into named tensors, and `fitting` puts those
that are the network's into it. Knows nothing about architectures.
"""
