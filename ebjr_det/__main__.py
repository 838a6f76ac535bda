"""`python -m ebjr_det` is `ebjr-det`."""

from ebjr_det.cli import main

main()
