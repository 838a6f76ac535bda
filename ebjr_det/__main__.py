"""`ebjr-det`, and `python -m ebjr_det`: catches Ctrl-C from the first import on."""

import os
import sys


def main() -> None:
    """Entry point of the command."""
    os.environ["MPLBACKEND"] = "agg"  # figures are files; whatever window system is set may not be here
    try:
        from ebjr_det.cli import cli
        from ebjr_det.cli.exits import run_safely
    except KeyboardInterrupt:
        print("ebjr-det: Interrupted. Nothing was begun.", file=sys.stderr)
        sys.exit(130)
    sys.exit(run_safely(lambda: cli(standalone_mode=False)))


if __name__ == "__main__":
    main()
