"""The answer of a report in three sentences: does the pair pay, who answers what, how far to trust it.

What is amiss, such as times from a busy machine, follows them; where nothing is, nothing does.
"""

from ebjr_det.core.cost import Budget, Cost
from ebjr_det.evaluation.hull import Margin
from ebjr_det.evaluation.report import Report
from ebjr_det.reporting.choices import estimate_finding, without_labels
from ebjr_det.reporting.notation import Shown, number, percent, plural, share, threshold_text

CURRENCIES: dict[Cost, str] = {"macs": "multiply-adds", "latency_ms": "time"}
PLAIN = {"multiply-adds": "computation", "time": "time"}
"""The currencies for whoever reads a heading alone."""
MIXED = "single models mixed at random"


def short_answer(report: Report) -> list[str]:
    """The three sentences, then one for each thing that is amiss."""
    return [verdict(report), share_sentence(report), trust_sentence(report), *warnings(report)]


def headline(report: Report) -> str:
    """The answer in a few words, in whole per cents: the page's heading."""
    return "Estimated: " * report.run.estimated + _headline(report)


def _headline(report: Report) -> str:
    sides = report.sides()
    joint, teacher, student = (sides[side]["quality"] for side in ("joint", "teacher", "student"))
    pays, not_shown, loses = _sides(report)
    if min(joint, teacher, student) < 0:
        return "Nothing is known of this pair"
    if teacher <= student and not pays:
        return "There is nothing to gain here: the teacher is no better than the student"
    verb = "keep" if joint <= teacher else "get"
    quality = f"you {verb} {share(joint / teacher, 0)} % of its quality" if teacher else "quality is gained"
    lead = _lead(*(list(map(PLAIN.__getitem__, currencies)) for currencies in (pays, not_shown, loses)))
    lead = lead.partition(", because")[0] if not_shown else lead
    return f"{_cost_words(report, [*pays, *not_shown, *loses][:1], 0)} {quality}: {lead[0].lower()}{lead[1:]}"


def verdict(report: Report) -> str:
    """One sentence: whether the pair pays, what it costs beside the teacher and what it keeps of its quality.

    A pair pays in a currency where the interval of its margin over single models that are mixed at random
    lies above 0, and does not where it lies below.
    """
    return without_labels(report) + _judgement(report)


def _judgement(report: Report) -> str:
    sides, name = report.sides(), report.task.quality_name
    joint, teacher, student = (sides[side]["quality"] for side in ("joint", "teacher", "student"))
    show = Shown.of(name)
    if min(joint, teacher, student) < 0:
        return f"Nothing is known of the pair's {name}: these images show nothing to judge by."
    pays, not_shown, loses = _sides(report)
    if teacher <= student and not pays:
        return (
            f"There is nothing to gain here: the teacher's {name}, {show.text(teacher)}, is no better than "
            f"the student's, {show.text(student)}; the pair's is {show.text(joint)}."
        )
    lead, cost = _lead(pays, not_shown, loses), _cost_words(report, list(CURRENCIES.values()))
    return f"{lead}: {cost[0].lower()}{cost[1:]} {_kept_words(joint, teacher, name)}{_margin_words(report)}."


def side_of(margin: Margin) -> int:
    """1 where the interval lies above 0, -1 where it lies below, 0 where it includes 0."""
    return (margin.low > 0) - (margin.high < 0)


def _sides(report: Report) -> tuple[list[str], list[str], list[str]]:
    """In which currencies the pair pays, in which that is not shown, in which it does not pay."""
    pays, not_shown, loses = (
        [CURRENCIES[kind] for kind, (margin, *_) in report.margins.items() if side_of(margin) == side]
        for side in (1, 0, -1)
    )
    return pays, not_shown, loses


def _lead(pays: list[str], not_shown: list[str], loses: list[str]) -> str:
    """How the verdict begins."""
    if not (pays or not_shown or loses):
        return "Whether this pair pays is not known without its models' costs"
    if not (not_shown or loses):
        return "This pair pays"
    if not (pays or not_shown):
        return f"This pair does not pay, because {MIXED} do better at its cost"
    if not (pays or loses):
        return f"It is not shown that this pair pays, because {MIXED} may do as well at its cost"
    claims = [("pays in", pays), ("does not pay in", loses), ("is not shown to pay in", not_shown)]
    parts = [f"{claim} {' and '.join(names)}" for claim, names in claims if names]
    return f"This pair {' and '.join(parts)}"


def _cost_words(report: Report, currencies: list[str], digits: int = 1) -> str:
    """What the pair costs beside the teacher, in these currencies as far as they are known."""
    names = PLAIN if digits == 0 else {name: name for name in PLAIN}
    parts: list[str] = []
    for kind, currency in CURRENCIES.items():
        part = cost_share(report, kind)
        if part is not None and currency in currencies:
            owner = "its" if parts else "the teacher's"
            parts.append(f"{share(part, digits)} % of {owner} {names[currency]}")
    sent = f"With {share(report.chosen.deferral_rate, digits and 2)} % of the images sent to the teacher"
    return f"At {' and '.join(parts)}" if parts else sent


def cost_share(report: Report, kind: Cost) -> float | None:
    """What the pair costs at its chosen point, timed live where it was, as a share of the teacher's cost."""
    alone, spent = report.curve.cost.alone(kind), getattr(report.chosen, kind)
    if kind == "latency_ms" and report.analysis.live is not None:
        spent = report.analysis.live.mean
    return None if alone is None or spent is None or not alone[1] else spent / alone[1]


def _kept_words(joint: float, teacher: float, name: str) -> str:
    show = Shown.of(name)
    if not teacher:
        return f"the {name} is {show.text(joint)}, the teacher's {show.text(teacher)}"
    verb, numbers = "keep" if joint <= teacher else "get", f"{show.value(joint)} of {show.text(teacher)}"
    return f"you {verb} {share(joint / teacher)} % of its {name} ({numbers})"


def _margin_words(report: Report) -> str:
    """How much that is over single models mixed at random at equal cost, with the interval."""
    show, parts = Shown.of(report.task.quality_name), []
    for kind, (margin, *_) in report.margins.items():
        direction = "more" if margin.value >= 0 else "less"
        ends = margin.interval if margin.value >= 0 else (-margin.high, -margin.low)
        words = f"{show.points(margin.value)} {show.interval(ends)} {direction}"
        parts.append(words + f" at equal {CURRENCIES[kind]}" * (len(report.margins) > 1))
    return (
        f"; that is {' and '.join(parts)} than {MIXED} would give{' at that cost' * (len(parts) == 1)}"
        if parts
        else ""
    )


def share_sentence(report: Report) -> str:
    """How many images the teacher answers, by which rule, and where that rule is from."""
    rate, score = report.chosen.deferral_rate, report.curve.score
    rule = f"{score} > {threshold_text(report.decision.threshold)}"
    if rate in (0, 1):
        images = "No image goes" if rate == 0 else "Every image goes"
        return f"{images} to the teacher: the threshold is {threshold_text(report.decision.threshold)}."
    calibration, choice, origin = report.analysis.calibration, report.analysis.selection, ""
    if choice is not None:
        scores, images = plural(choice.candidates, "score"), plural(choice.images, "other image")
        origin = f"; score and threshold were chosen among {scores} on {images}"
    elif report.analysis.threshold_from == "target" and calibration is not None:
        origin = f"; the threshold was chosen on {plural(calibration.images, 'other image')}"
    elif report.analysis.threshold_from == "rate":
        origin = "; the threshold is the one that defers so many of these images"
    elif report.analysis.threshold_from == "given":
        origin = "; the threshold was given"
    return f"{percent(rate)} of the images go to the teacher, those with {rule}{origin}."


def trust_sentence(report: Report) -> str:
    """On what the numbers rest, and whether anything was chosen by looking at them."""
    images, analysis = plural(len(report.run), "image"), report.analysis
    level = f"{100 * report.intervals.confidence:g} % intervals"
    text = f"Judged on {images}; in brackets {level} from {plural(analysis.replicates, 'resample')} of them"
    if analysis.picked_among:
        return (
            f"{text}, but {report.curve.score} was picked among {analysis.picked_among} scores on these very "
            "images, so that its numbers flatter."
        )
    claims = {
        "target": ", none of which chose router or threshold",
        "rate": ", of which no label chose the threshold",
        "given": ". If the threshold was picked by its quality on these images, that quality flatters",
    }
    return f"{text}{claims.get(analysis.threshold_from, '')}."


def warnings(report: Report) -> list[str]:
    """What is amiss: no labels, times from a busy machine, a share unlike chance, a score that has moved."""
    sentences = [*estimate_finding(report), *noise_finding(report)]
    calibration, rate, use = report.analysis.calibration, report.chosen.deferral_rate, report.analysis.router
    expected = None if calibration is None else calibration.share_interval(len(report.run))
    if calibration is not None and expected is not None and not expected[0] <= rate <= expected[1]:
        sentences.append(
            f"Beware: the threshold defers {percent(rate)} of these images and "
            f"{percent(calibration.point.deferral_rate)} of those that chose it, UNLIKE CHANCE. These are of "
            "another kind, or the router was fitted on too few."
        )
    if use is not None and use.drift is not None and use.drift.moved:
        sentences.append(
            "Beware: the router's score has moved since its fit, by "
            f"{number(use.drift.distance, digits=3)} where chance stays under "
            f"{number(use.drift.expected, digits=3)}."
        )
    return sentences


def noise_finding(report: Report) -> list[str]:
    """That latencies are doubtful, where other processes took too much of the CPUs."""
    live, batches = report.analysis.live, report.analysis.batch_load
    loads = [load for load in (live.load if live else None, batches) if load is not None and load.noisy]
    if not loads:
        return []
    largest = max(loads, key=lambda load: load.others or 0)
    return [f"Latencies were measured {largest.in_words}. Measure them again on a quiet machine."]


def figure_title(report: Report, kind: Budget) -> str:
    """What a trade-off figure shows: the pair beside what there would be at its cost without a router."""
    sides, name, rate = report.sides(), report.task.quality_name, report.chosen.deferral_rate
    joint, teacher, show = sides["joint"], sides["teacher"], Shown.of(name)
    pair = f"the pair's {name} is {show.text(joint['quality'])}"
    if kind == "deferral_rate":
        coin = float(report.curve.random[round(rate * report.curve.images)])
        sent = f"With {percent(rate)} of the images sent to the teacher"
        return f"{sent} {pair}, by random deferral {show.text(coin)}"
    at = f"At {share(cost_share(report, kind))} % of the teacher's {CURRENCIES[kind]}"
    if kind not in report.margins:
        return f"{at} {pair}, the teacher's {show.text(teacher['quality'])}"
    margin = report.margins[kind][0]
    return f"{at} {pair}, that of single models mixed {show.text(margin.quality - margin.value)}"
