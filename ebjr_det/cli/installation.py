"""`ebjr-det download`, `scores` and `doctor`: what there is to work with."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, print_json
from ebjr_det.errors import InvalidInput


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--data", type=PATH, default=Path("data"), show_default=True, help="Root of data sets.")
@AS_JSON
def download(names: tuple[str, ...], data: Path, as_json: bool) -> None:
    """Fetch published weights (tf_efficientdet_d0 ...) or data (coco-val2017); resumes and checks."""
    from ebjr_det.download import download as fetch

    paths = [str(path) for name in names for path in fetch(name, data)]
    if as_json:
        print_json({"paths": paths})
    else:
        click.echo("\n".join(paths))


@click.command()
@AS_JSON
def scores(as_json: bool) -> None:
    """The deferral scores with formula and source."""
    from ebjr_det.scores import SCORES

    if as_json:
        fields = ("name", "formula", "source", "options")
        print_json([{field: getattr(s, field) for field in fields} for s in SCORES.values()])
    else:
        from ebjr_det.reporting.screen import print_rows

        columns = ["score", "formula (higher = send to the teacher)", "options", "source"]
        rows = [(s.name, s.formula, ", ".join(s.options), s.source) for s in SCORES.values()]
        print_rows("Deferral scores", columns, rows)


@click.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """What this installation has, and in plain words what is missing or does not fit."""
    from ebjr_det.environment import diagnose

    checks = diagnose()
    faults = [check for check in checks if check.state == "fault"]
    if as_json:
        print_json({"healthy": not faults, "checks": [check.__dict__ for check in checks]})
    else:
        from ebjr_det.reporting.screen import print_rows

        rows = [(check.state, check.name, check.finding) for check in checks]
        print_rows("ebjr-det doctor", ["", "what", "found"], rows)
    if faults:
        raise InvalidInput(
            f"Expected a sound installation, got {len(faults)} faults: {faults[0].name}: {faults[0].finding}"
        )
