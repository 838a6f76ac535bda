"""Detectors: their networks, and what turns raw outputs into boxes."""
