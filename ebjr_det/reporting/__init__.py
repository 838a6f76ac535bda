"""From a PairedRun's analysis to tables, figures and JSON. Knows no model and no data."""
