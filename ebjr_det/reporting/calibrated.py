"""A calibrated threshold in words and as a table: the target, and both sets of images side by side."""

from collections.abc import Mapping
from typing import Any

from ebjr_det.core.cost import Unit, cost_text
from ebjr_det.reporting.notation import Shown, milliseconds, percent, plural, share
from ebjr_det.reporting.table import Table


def verdict(answer: Mapping[str, Any]) -> str:
    """One sentence: whether the target is met on images that the choice did not see."""
    got, met = _reached(answer)
    report, target = answer["report"], answer["target"]
    asked = target_text(target, answer["quality_name"], unit_of(answer))
    sent = "" if target["kind"] == "deferral_rate" else f"; {percent(report['deferral_rate'])} deferred"
    return (
        f"The target is {'met' if met else 'MISSED'} on {plural(report['images'], 'image')} that the choice "
        f"did not see: {got} (asked: {asked}){sent}."
    )


def target_text(target: Mapping[str, Any], quality_name: str, unit: Unit) -> str:
    """What was asked for, with its unit."""
    kind, value, show = target["kind"], target["value"], Shown.of(quality_name)
    if kind == "min_quality":
        text = f"{quality_name} of at least {show.text(value)}"
    elif kind == "max_drop":
        text = f"{quality_name} at most {show.points(value)} below the teacher's"
    else:
        text = f"at most {_spent(kind, value, unit)}"
    return f"{text}, with {100 * target['confidence']:g} % probability" if target["confidence"] else text


def _spent(kind: str, cost: float, unit: Unit) -> str:
    return f"{cost_text(kind, cost, unit)} {'deferred' if kind == 'deferral_rate' else 'an image'}"


def _reached(answer: Mapping[str, Any]) -> tuple[str, bool]:
    """What the reported images show of the same thing, and whether it is enough."""
    target, report, show = answer["target"], answer["report"], Shown.of(answer["quality_name"])
    kind, value = target["kind"], target["value"]
    if kind not in ("min_quality", "max_drop"):
        return _spent(kind, report[kind], unit_of(answer)), report[kind] <= value * (1 + 1e-12)
    quality, teacher = report["quality"], report["teacher_quality"]
    text = f"{answer['quality_name']} {show.text(quality)}"
    if kind == "min_quality":
        return text, quality >= value - 1e-12
    side = "below" if quality <= teacher else "above"
    return (
        f"{text}, {show.points(teacher - quality)} {side} the teacher's",
        teacher - quality <= value + 1e-12,
    )


def unit_of(answer: Mapping[str, Any]) -> Unit:
    """The unit in which the answer's multiply-adds read well."""
    return Unit.of(answer["teacher_macs"])


def table(answer: Mapping[str, Any]) -> Table:
    """The images that the threshold was chosen on, and those that it is reported on."""
    show, unit = Shown.of(answer["quality_name"]), unit_of(answer)
    rows = []
    for part, name in (("calibration", "chosen on"), ("report", "reported on")):
        row = answer[part]
        qualities = [show.value(row[key]) for key in ("student_quality", "quality", "teacher_quality")]
        costs = unit.value(row["macs"]), milliseconds(row["latency_ms"])
        rows.append([name, f"{row['images']:,}", share(row["deferral_rate"], 2), *qualities, *costs])
    names = map(show.heading, ("student", "pair", "teacher"))
    columns = ["", "images", "deferred %", *names, unit.name, "ms"]
    caption = (
        f"student, pair, teacher: {answer['quality_name']}; MACs and ms: student + deferral rate x teacher"
    )
    return Table("", columns, rows, caption)


def threshold_line(answer: Mapping[str, Any]) -> str:
    """The threshold to the last digit, as it is given to other commands."""
    return f"Threshold of {answer['score']}: {_threshold(answer)} (what scores higher goes to the teacher)."


def _threshold(answer: Mapping[str, Any]) -> str:
    """JSON has no infinity: an end threshold is None there, and the deferral rate tells which end."""
    if answer["threshold"] is not None:
        return str(answer["threshold"])
    return "inf (defer none)" if answer["calibration"]["deferral_rate"] == 0 else "-inf (defer all)"
