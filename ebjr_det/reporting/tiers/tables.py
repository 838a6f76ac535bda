"""The tables of several tiers: the choice for a target, budgets, what more than two add, models, scores."""

from ebjr_det.core.cost import Cost
from ebjr_det.core.types import Task
from ebjr_det.evaluation.tiers.analysis import TieredAnalysis
from ebjr_det.evaluation.tiers.choice import Choice
from ebjr_det.evaluation.tiers.report import TieredReport
from ebjr_det.evaluation.units import Unit, cost_text
from ebjr_det.reporting.answer import CURRENCIES, MIXED
from ebjr_det.reporting.notation import NONE, Shown, number, share, threshold_text
from ebjr_det.reporting.table import Table
from ebjr_det.reporting.tiers.words import chain_name, unit_of


def budget_table(report: TieredReport, kind: Cost) -> Table:
    """One row a budget: the best chain, what it costs and is worth, and what share each tier answers."""
    show, unit, costs = Shown.of(report.task.quality_name), unit_of(report), report.analysis.costs[kind]
    rows = []
    for row in report.table[kind]:
        best = row.winners.best
        rows.append(
            [
                cost_text(kind, row.winners.budget, unit),
                chain_name(best),
                cost_text(kind, best.cost(costs), unit),
                show.value(best.quality),
                NONE if len(best.chain.tiers) < 3 else show.gain(row.over_pair),
                NONE if len(best.chain.tiers) < 2 else show.gain(row.over_hull),
                " / ".join(share(best.answered.get(tier.name, 0.0)) for tier in report.analysis.tiers),
            ]
        )
    name = show.heading(report.task.quality_name)
    columns = ["at most", "best", "costs", name, "over best pair", "over hull", "answered %"]
    names = ", ".join(tier.name for tier in report.analysis.tiers)
    caption = (
        f"over best pair: above the best chain of at most two tiers; hull: {MIXED} at the same cost; "
        f"answered: the share of the images that {names} each answer"
    )
    return Table(f"The best chain by budget of {CURRENCIES[kind]}", columns, rows, caption, labels=2)


def longer_table(report: TieredReport, kind: Cost) -> Table | None:
    """One row a budget: the best chain of more than two tiers beside the best pair; None of two tiers."""
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    rows = [
        [
            cost_text(kind, row.winners.budget, unit),
            chain_name(row.winners.longer),
            show.value(row.winners.longer.quality),
            chain_name(row.winners.pair),
            show.value(row.winners.pair.quality),
            show.gain(row.added),
        ]
        for row in report.table[kind]
        if row.winners.longer is not None and row.added is not None
    ]
    name = show.heading(report.task.quality_name)
    columns = ["at most", "more than two tiers", name, "best pair", name, "difference"]
    return (
        Table(f"What more than two tiers add, by budget of {CURRENCIES[kind]}", columns, rows)
        if rows
        else None
    )


def models_table(report: TieredReport) -> Table:
    """The tiers alone."""
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    rows = [
        [tier.name, unit.value(tier.macs), number(tier.latency_ms), show.value(report.singles[tier.name])]
        for tier in report.analysis.tiers
    ]
    return Table("The tiers alone", ["tier", unit.name, "ms", show.heading(report.task.quality_name)], rows)


def scores_table(report: TieredReport) -> Table:
    """What passes images on."""
    rows = [[lower, upper, score] for (lower, upper), score in report.scores.items()]
    return Table("What passes images on", ["from", "to", "score"], rows, labels=3)


def chosen_table(report: TieredReport) -> Table | None:
    """The thresholds of all tiers for the target, of the settings or at a rate; None where none are."""
    return None if report.chosen is None else choice_table(report.task, report.analysis, report.chosen)


def choice_table(task: Task, analysis: TieredAnalysis, choice: Choice) -> Table:
    """A choice's thresholds, and what share of the images each of its tiers sees and answers."""
    unit, show = Unit.of(max(analysis.costs["macs"].values())), Shown.of(task.quality_name)
    runs = choice.chain.runs(choice.reported.passed)[0]
    scores, thresholds = [*choice.chain.scores, "-"], [*map(threshold_text, choice.thresholds), "-"]
    answered = zip(choice.answered.items(), scores, thresholds, runs.tolist(), strict=True)
    rows = [
        [name, score, threshold, share(run), share(answer)]
        for (name, answer), score, threshold, run in answered
    ]
    costs = ", ".join(cost_text(kind, choice.cost(c), unit) for kind, c in analysis.costs.items())
    name = f"{task.quality_name} {show.text(choice.quality)}"
    rule = "an image goes past a tier where score > threshold"
    caption = f"{name} at {costs} on images that the choice did not see; {rule}"
    columns = ["tier", "score", "threshold", "run on %", "answers %"]
    return Table(f"{_occasion(task, analysis, unit)}: {chain_name(choice)}", columns, rows, caption)


def _occasion(task: Task, analysis: TieredAnalysis, unit: Unit) -> str:
    """What the thresholds are for."""
    target, chosen = analysis.target, analysis.chosen
    if target is None:
        rate = None if chosen is None else chosen.rate
        return "As set" if rate is None else f"Each tier passes on {share(rate)} % of what reaches it"
    if target.kind == "min_quality":
        return f"For {task.quality_name} of at least {Shown.of(task.quality_name).text(target.value)}"
    return f"For at most {cost_text(target.kind, target.value, unit)}"


def tables(report: TieredReport) -> list[Table]:
    """All of them, those that answer first."""
    budgets = [make(report, kind) for kind in report.table for make in (budget_table, longer_table)]
    return [*filter(None, [chosen_table(report), *budgets]), models_table(report), scores_table(report)]
