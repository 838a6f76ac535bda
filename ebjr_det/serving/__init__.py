"""The live pair behind the Open Inference Protocol: desk, batches, limits, metrics, client, page."""
