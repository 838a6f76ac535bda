"""How many pictures does a learned router need, with labels and without? The learning curve of the page.

    python eval/routing/learning_curve.py DATA

DATA is that of `run.py`. Of the four fifths that each fold fits on, random subsets are labelled, or have
objects drawn from what the teacher says; routers fitted on them are judged by labels on the fold.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm
from unlabelled import DETECTORS, FOLDS, PAIRS, RATES, REPLICATES, TRUTH

from ebjr_det.core.ranking import Ranking
from ebjr_det.core.scores import CURVATURE
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import FloatArray, PairedRun, concatenate
from ebjr_det.evaluation.bootstrap import interval, paired_bootstrap
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json
from ebjr_det.reporting.style import BLUE, GREY, STYLE, VERMILLION, new_figure, save_figure
from ebjr_det.routing.crossfit import folds
from ebjr_det.tasks import load_task
from ebjr_det.tasks.detection import pseudo
from ebjr_det.tasks.detection.boxes import Boxes
from ebjr_det.tasks.detection.coco.annotations import Truth, load_annotations, load_results
from ebjr_det.tasks.detection.metric import match_records

SIZES, SUBSETS = (100, 200, 400, 700), 4
SCORES = ("learned", "class_curvature")
TASK, ROUTING = load_task("detection").judge(), load_task("detection").routing
RESULTS = Path(__file__).parent / "results"
DRAWN = (
    ("labels", "learned", BLUE, "o-"),
    ("drawn objects", "learned", VERMILLION, "s-"),
    ("labels", "class_curvature", "#009E73", "--"),
)
Curve = tuple[str, str, int, list[PairedRun]]
"""What routers were fitted on, the score, how many pictures, and records of all folds for every subset."""


def subsets(rest: NDArray[np.intp], size: int, fold: int) -> list[NDArray[np.intp]]:
    """Seeded subsets of the pictures that a fold fits on, each within the next larger one of its seed."""
    if size >= len(rest):
        return [rest]
    orders = (np.random.default_rng([seed, fold]).permutation(rest) for seed in range(SUBSETS))
    return [np.sort(order[:size]) for order in orders]


def cross_fitted(real: PairedRun, source: PairedRun, size: int) -> list[PairedRun]:
    """Real records with out-of-fold scores, once for every subset of that size that routers are fitted on."""
    parts = folds(len(real), FOLDS, 0)
    scored: list[list[PairedRun]] = []
    for number, part in enumerate(parts):
        fold, scored_fold = select(real, TASK, part), []
        for train in subsets(np.setdiff1d(np.arange(len(real)), part), size, number):
            fitted_on = select(source, TASK, train)
            router = ROUTING.fit_router(
                fitted_on, rescaling="affine", worth=np.ones(real.student["truths"].shape[1])
            )
            student = replace(fold, student=router.rescale_records(fold.student))
            scores = router.scores_of_set(student)
            scored_fold.append(replace(student, scores={name: scores[name] for name in SCORES}))
        scored.append(scored_fold)
    back = np.argsort(np.concatenate(parts))
    return [joined(real, runs, back) for runs in zip(*scored, strict=True)]


def joined(real: PairedRun, runs: tuple[PairedRun, ...], back: NDArray[np.intp]) -> PairedRun:
    """The folds' records in the order of the run."""
    scores = {name: np.concatenate([run.scores[name] for run in runs])[back] for name in SCORES}
    return replace(real, scores=scores, student=TASK.take(concatenate([run.student for run in runs]), back))


def curves_of(real: PairedRun, sources: Mapping[str, PairedRun]) -> Iterator[Curve]:
    """Every point of every curve; first the score that needs no picture."""
    boxes = Boxes.of_records(real.student)
    curvature = boxes.total(boxes.score * (1 - boxes.score))
    yield "nothing", CURVATURE, 0, [replace(real, scores={CURVATURE: curvature})]
    every = len(real) - len(real) // FOLDS
    for form, source in sources.items():
        for size in tqdm((*SIZES, every), desc=form, leave=False):
            runs = cross_fitted(real, source, size)
            for name in SCORES:
                yield form, name, size, runs


def judged(real: PairedRun, curves: list[Curve]) -> list[dict[str, Any]]:
    """Mean G of every point, averaged over its subsets, with an interval over reported pictures; and that of
    what it is above `learned` from all labels.
    """
    runs = [(run, name) for _, name, _, subset in curves for run in subset]
    rankings = [Ranking(TASK.mixtures(run.student, run.teacher), run.scores[name]) for run, name in runs]
    plain = Ranking(TASK.mixtures(real.student, real.teacher), real.scores["random"])
    judges = [partial(plain.at, np.array([0.0, 1.0]))]
    judges += [partial(ranking.at, np.array(RATES)) for ranking in rankings]
    estimate, drawn = paired_bootstrap(judges, len(real), REPLICATES, 0, side_by_side=True)

    def gaps(values: FloatArray) -> FloatArray:
        low, high = values[..., :1, None], values[..., 1:2, None]
        return np.asarray((values[..., 2:].reshape(*values.shape[:-1], len(runs), -1) - low) / (high - low))

    whole, resampled = gaps(estimate), gaps(drawn).mean(axis=-1)
    bounds = np.cumsum([0, *(len(subset) for *_, subset in curves)])
    of_curve = [slice(first, last) for first, last in pairwise(bounds)]
    means = np.array([whole[s].mean() for s in of_curve])
    spread = np.stack([resampled[:, s].mean(axis=1) for s in of_curve], axis=1)
    last = max(size for _, _, size, _ in curves)
    full = next(i for i, c in enumerate(curves) if c[:3] == ("labels", "learned", last))
    ends, behind = (
        interval(values, replicates, 0.95)
        for values, replicates in ((means, spread), (means - means[full], spread - spread[:, [full]]))
    )
    return [
        {
            "fitted_on": form,
            "score": name,
            "pictures": size,
            "gap_recovered": whole[s].mean(axis=0).tolist(),
            "mean_gap_recovered": float(means[index]),
            "interval": ends[:, index].tolist(),
            "subsets": whole[s].mean(axis=-1).tolist(),
            "share_of_all_labels": float(means[index] / means[full]),
            "minus_all_labels": [float(means[index] - means[full]), *behind[:, index].tolist()],
        }
        for index, ((form, name, size, _), s) in enumerate(zip(curves, of_curve, strict=True))
    ]


def measured(data: Path) -> dict[str, Any]:
    """The three pairs of detectors, and what else the machine had to do when it began."""
    environment = describe_environment("cpu", 0)
    del environment["command"]  # names a folder of this machine
    truth = load_annotations(data / "annotations" / TRUTH)
    files = {name: data / "detections" / f"{name}_half_a.json.gz" for name in DETECTORS}
    results = {name: load_results(path, truth) for name, path in files.items()}
    classes, tables = len(truth.category_ids), {}
    for student, teacher in tqdm(PAIRS, desc="pairs"):

        def records(truths: tuple[Truth, ...], student: str = student, teacher: str = teacher) -> PairedRun:
            ids, random = tuple(map(str, truth.image_ids)), np.random.default_rng(0).random(len(truth))
            matches = {name: match_records(results[name], truths, classes) for name in (student, teacher)}
            return PairedRun("detection", ids, {"random": random}, matches[student], matches[teacher])

        real = records(truth.truths)
        drawn = records(pseudo.drawn_truths(results[teacher], truth.image_ids))
        curves = list(curves_of(real, {"labels": real, "drawn objects": drawn}))
        tables[f"{student}_{teacher}"] = judged(real, curves)
    return {"environment": environment, "pairs": tables}


def draw(result: Mapping[str, Any]) -> None:
    """Mean G against the number of pictures, a panel a pair."""
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = new_figure("Pictures that a learned router needs", 3.6)
        figure.delaxes(axes)
        for index, (student, teacher) in enumerate(PAIRS):
            table, axes = (
                result["pairs"][f"{student}_{teacher}"],
                figure.add_subplot(1, len(PAIRS), index + 1),
            )
            for fitted_on, score, color, line in DRAWN:
                rows = [r for r in table if (r["fitted_on"], r["score"]) == (fitted_on, score)]
                sizes = [r["pictures"] for r in rows]
                label = f"{score}, {fitted_on}"
                axes.plot(
                    sizes, [100 * r["mean_gap_recovered"] for r in rows], line, color=color, label=label
                )
                if score == "learned":
                    low, high = 100 * np.array([r["interval"] for r in rows]).T
                    axes.fill_between(sizes, low, high, color=color, alpha=0.12, lw=0)
            none = next(r["mean_gap_recovered"] for r in table if r["score"] == CURVATURE)
            axes.axhline(100 * none, ls=":", color=GREY, label=f"{CURVATURE}, no picture")
            axes.set_xscale("log")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set(title=f"{student.split('_')[0]} -> {teacher.split('_')[0]}", xlabel="pictures")
            axes.set_ylim(25, 72)
            if index == 0:
                axes.set_ylabel("mean G (%)")
                axes.legend(frameon=False, loc="lower right", fontsize=7)
            else:
                axes.set_yticklabels([])
        save_figure(figure, RESULTS / "learning_curve", "Mean share of the gap against pictures of the fit")


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--draw-only", action="store_true", help="draw the saved results anew")
    args, path = parser.parse_args(), RESULTS / "learning_curve.json"
    if not args.draw_only:
        path.write_text(to_json(measured(args.data)) + "\n")
    draw(json.loads(path.read_text()))


if __name__ == "__main__":
    main()
