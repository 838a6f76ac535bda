"""A pair under a stated mix of classes, drawn."""
