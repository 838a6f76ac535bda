"""What records say, computed: analysis, report, run folder, bootstrap, margins over single models."""
