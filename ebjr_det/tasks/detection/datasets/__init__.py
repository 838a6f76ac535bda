"""Readers and makers of data sets that are not in COCO's format."""
