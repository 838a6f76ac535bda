"""Benchmarks, told and drawn."""
