"""`ebjr-det download`, `scores` and `doctor`: what there is to work with."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.options import AS_JSON, PATH
from ebjr_det.cli.printing import print_json
from ebjr_det.core.errors import InvalidInput
from ebjr_det.reporting.notation import plural


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--data", type=PATH, default=Path("data"), show_default=True, help="Root of data sets.")
@AS_JSON
def download(names: tuple[str, ...], data: Path, as_json: bool) -> None:
    """Fetch published weights (tf_efficientdet_d0 ...) or data (coco-val2017); resumes and checks."""
    from ebjr_det.io.download import download as fetch

    paths = [str(path) for name in names for path in fetch(name, data)]
    if as_json:
        print_json({"paths": paths})
    else:
        click.echo("\n".join(paths))


@click.command()
@AS_JSON
def scores(as_json: bool) -> None:
    """The deferral scores with formula, source and what each needs."""
    from ebjr_det.api.scores import list_scores

    listed = list_scores()
    if as_json:
        print_json([score._asdict() for score in listed])
    else:
        from ebjr_det.reporting.screen import print_screen
        from ebjr_det.reporting.table import Table

        columns = ["score", "task", "formula", "options", "needs", "source"]
        rows = [
            (s.name, s.task, s.formula, ", ".join(s.options), ", ".join(s.needs), s.source) for s in listed
        ]
        verdict = (
            f"{plural(len(listed), 'deferral score')}: the higher, the more a picture needs the teacher."
        )
        print_screen(verdict, [Table("", columns, rows)])


@click.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """What this installation has, and in plain words what is missing or does not fit."""
    from ebjr_det.api.doctor import diagnose

    checks = diagnose()
    faults = [check for check in checks if check.state == "fault"]
    if as_json:
        print_json({"healthy": not faults, "checks": [check.__dict__ for check in checks]})
    else:
        from ebjr_det.reporting.screen import print_screen
        from ebjr_det.reporting.table import Table

        rows = [(check.state, check.name, check.finding) for check in checks]
        notes = sum(check.state == "note" for check in checks)
        counts = f"{plural(len(checks), 'check')}, {plural(len(faults), 'fault')}, {plural(notes, 'note')}"
        verdict = f"This installation is {'NOT ' * bool(faults)}sound: {counts}."
        print_screen(verdict, [Table("", ["", "what", "found"], rows, labels=2)])
    if faults:
        first, count = faults[0], plural(len(faults), "fault")
        raise InvalidInput(f"Expected a sound installation, got {count}: {first.name}: {first.finding}")
