"""Runs under a stated mix of classes."""
