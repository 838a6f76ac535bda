"""`ebjr-det download`, `scores` and `doctor`: what there is to work with."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.options import AS_JSON, PATH, Name, name_argument
from ebjr_det.cli.printing import print_json
from ebjr_det.core.errors import InvalidInput


@click.command()
@name_argument("names", Name("downloads"), metavar="NAME...", nargs=-1, required=True, help="What to fetch.")
@click.option("--data", type=PATH, default=Path("data"), show_default=True, help="Root of data sets.")
@AS_JSON
def download(names: tuple[str, ...], data: Path, as_json: bool) -> None:
    """Fetch published weights or data; resumes and checks."""
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
        return
    from ebjr_det.reporting.screen import print_screen
    from ebjr_det.reporting.table import Table

    columns = ["score", "task", "formula", "options", "needs", "source"]
    rows = [(s.name, s.task, s.formula, ", ".join(s.options), ", ".join(s.needs), s.source) for s in listed]
    verdict = f"{len(listed)} deferral scores: the higher, the more a picture needs the teacher."
    print_screen(verdict, [Table("", columns, rows)])


@click.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """What this installation has, and in plain words what is missing or does not fit."""
    from ebjr_det.api.doctor import diagnose
    from ebjr_det.reporting.notation import plural

    checks = diagnose()
    faults = [check for check in checks if check.state == "fault"]
    count = plural(len(faults), "fault")
    if as_json:
        print_json({"healthy": not faults, "checks": [check.__dict__ for check in checks]})
    else:
        from ebjr_det.reporting.screen import print_screen
        from ebjr_det.reporting.table import Table

        rows = [(check.state, check.name, check.finding) for check in checks]
        notes = plural(sum(check.state == "note" for check in checks), "note")
        counts = f"{plural(len(checks), 'check')}, {count}, {notes}"
        verdict = f"This installation is {'NOT ' * bool(faults)}sound: {counts}."
        print_screen(verdict, [Table("", ["", "what", "found"], rows, labels=2)])
    if faults:
        name, finding = faults[0].name, faults[0].finding
        raise InvalidInput(f"Expected a sound installation, got {count}: {name}: {finding}")
