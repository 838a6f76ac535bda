"""Readers of published data sets of labelled images."""
