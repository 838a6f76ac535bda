"""What several tiers come to, in sentences: does a third one pay, and how sure is that."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.bootstrap import CONFIDENCE
from ebjr_det.evaluation.tiers.choice import Choice
from ebjr_det.evaluation.tiers.report import Margins, TieredReport
from ebjr_det.evaluation.units import cost_text
from ebjr_det.reporting.answer import CURRENCIES, MIXED
from ebjr_det.reporting.notation import Shown, Unit, plural


def unit_of(report: TieredReport) -> Unit:
    """The unit in which all multiply-adds of a report read well."""
    return Unit.of(max(report.analysis.costs["macs"].values()))


def chain_name(choice: Choice) -> str:
    """The models of a choice, and of three and more how images go along them."""
    chain = choice.chain
    topology = f" ({chain.topology})" if len(chain.tiers) > 2 else ""
    return " > ".join(chain.tiers) + topology


def verdict(report: TieredReport) -> str:
    """In each currency, whether more than two tiers pay, or of two whether the pair does.

    They pay at a budget where the best chain lies by more than chance above the best pair and above single
    models mixed at random.
    """
    count = len(report.analysis.tiers)
    paying = [kind for kind, rows in report.table.items() if any(pays(row, count) for row in rows)]
    vain = [kind for kind in report.table if kind not in paying]
    parts = [judgement(report, kind) for kind in paying]
    return " ".join([*parts, *([_vain(report, vain)] if vain else [])])


def judgement(report: TieredReport, kind: Cost) -> str:
    """The verdict in one currency."""
    count, unit, show = len(report.analysis.tiers), unit_of(report), Shown.of(report.task.quality_name)
    rows = report.table[kind]
    paying = [row for row in rows if pays(row, count)]
    if not paying:
        return _vain(report, [kind])
    best = max(paying, key=lambda row: row.over_hull.value if count == 2 else row.over_pair.value)
    gain, rival = (best.over_hull, MIXED) if count == 2 else (best.over_pair, "the best pair")
    ends = [cost_text(kind, row.winners.budget, unit) for row in (paying[0], paying[-1])]
    span = f"at {ends[0]}" if len(paying) == 1 else f"from {ends[0]} to {ends[1]}"
    lead = f"{_subject(count)} pay{'s' * (count < 4)} in {CURRENCIES[kind]} at {len(paying)} of"
    gained = f"{show.points(gain.value)} {show.interval(gain.interval)} above {rival}"
    winner, limit = best.winners.best, cost_text(kind, best.winners.budget, unit)
    return f"{lead} {plural(len(rows), 'budget')}, {span}: {chain_name(winner)} is {gained} at {limit}."


def _vain(report: TieredReport, kinds: Sequence[Cost]) -> str:
    """That nothing pays in some currencies."""
    count, budgets = len(report.analysis.tiers), plural(len(report.table[kinds[0]]), "budget")
    currencies = " or ".join(CURRENCIES[kind] for kind in kinds)
    lead = f"{_subject(count)} do{'es' * (count < 4)} not pay here in {currencies}"
    rivals = f"above {MIXED}" if count == 2 else f"above the best pair and above {MIXED}"
    chain = "it" if count == 2 else "a chain of more than two"
    return f"{lead}: at none of {budgets} is {chain} {rivals} by more than chance."


def _subject(tiers: int) -> str:
    return {2: "This pair", 3: "A third tier"}.get(tiers, "More than two tiers")


def pays(row: Margins, tiers: int) -> bool:
    """Whether the best chain of a budget is above what it has to beat, by more than chance."""
    longer = tiers == 2 or (len(row.winners.best.chain.tiers) > 2 and row.over_pair.low > 0)
    return longer and row.over_hull.low > 0


def sentences(report: TieredReport) -> Iterator[str]:
    """What is chosen how often, how far it is to be trusted, and what is amiss."""
    for kind, rows in report.table.items():
        names = [chain_name(row.winners.best) for row in rows]
        counted = sorted(dict.fromkeys(names), key=lambda name: -names.count(name))
        chosen = ", ".join(f"{name} at {names.count(name)}" for name in counted)
        above = sum(row.over_hull.low > 0 for row in rows)
        below = sum(row.over_hull.high < 0 for row in rows)
        yield (
            f"Best in {CURRENCIES[kind]}, by number of budgets: {chosen}; by more than chance above {MIXED} "
            f"at {above}, below at {below}."
        )
    choosing, judging = plural(report.calibrating, "image"), plural(report.images, "other image")
    yield (
        f"Scores, chains and thresholds were chosen on {choosing}; every number is of {judging}, in brackets "
        f"{100 * CONFIDENCE:g} % intervals that hold at all budgets at once, from "
        f"{plural(report.analysis.replicates, 'resample')} of them."
    )
    for kind, costs in report.analysis.costs.items():
        for (lower, cost), (upper, next_cost) in pairwise(costs.items()):
            if cost >= next_cost:
                order = f"Note: the tiers are in no order of {CURRENCIES[kind]}"
                yield f"{order}: {lower} costs no less than {upper}, to which it passes on."
