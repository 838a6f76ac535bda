"""Level or curvature of the energy, and in which form? The table of `eval/routing/README.md`.

    python eval/routing/curvature.py RUN [RUN ...]

A RUN is the folder of an evaluation of a pair with an EfficientDet student (scenes, BCCD), whose logits are
computed anew here, or of classifiers (CIFAR), whose scores the run holds. Every form is judged by its area
under AP (accuracy) against deferral rate: what part of the way from a coin to the oracle it gets, and its
paired 95 % interval minus `energy_curvature`.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, logsumexp, softmax

from ebjr_det import load_config
from ebjr_det.core.scores import CURVATURE
from ebjr_det.core.tradeoff import sweep_all
from ebjr_det.core.types import FloatArray, PairedRun
from ebjr_det.evaluation.bootstrap import bootstrap
from ebjr_det.evaluation.report import area_of
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.inference.pair import Pair
from ebjr_det.io.files import to_json
from ebjr_det.tasks import load_task

RESULTS = Path(__file__).parent / "results" / "curvature.json"
COUNTS, TEMPERATURES = (5, 10, 20, 50), (0.5, 2.0, 3.0)


def variance(p: FloatArray) -> FloatArray:
    """Variance p (1 - p) of each probability."""
    return np.asarray(p * (1 - p))


def forms_of(rows: FloatArray, s: FloatArray, anchors: FloatArray) -> dict[str, float]:
    """Every form for one picture.

    Args:
        rows: [boxes, classes] logits of the kept boxes, best first; s: [boxes] their scores.
        anchors: [anchors, classes] logits before suppression.
    """
    alone, every = variance(s), variance(expit(rows)).sum(axis=1)
    ground = np.concatenate([rows, np.zeros((len(rows), 1))], axis=1)  # a background whose logit is 0
    among, beside = variance(softmax(rows, axis=1)).sum(axis=1), variance(softmax(ground, axis=1)).sum(axis=1)
    forms = {
        "curvature: box's own class": alone.sum(),
        "curvature: softmax over classes": among.sum(),
        "curvature: softmax with background": beside.sum(),
        "curvature: mean over 10 boxes": every[:10].sum() / max(1, len(every[:10])),
        "curvature: all anchors": variance(expit(anchors)).sum(),
        "curvature: all anchors, best class": variance(expit(anchors).max(axis=1)).sum(),
        "level: energy, mean of 10 (published)": -logsumexp(rows[:10], axis=1).mean() if len(rows) else 20.0,
        "level: joint energy, mean of 10": -np.logaddexp(0, rows[:10]).sum(axis=1).mean()
        if len(rows)
        else 0.0,
        "level: joint energy, sum of all": -np.logaddexp(0, rows).sum(),
        "level: joint energy, all anchors": -np.logaddexp(0, anchors).sum(),
        "level, turned round: joint energy, sum of all": np.logaddexp(0, rows).sum(),
        "level x curvature: sum s": s.sum(),
    }
    forms |= {f"curvature: first {count} boxes": every[:count].sum() for count in COUNTS}
    for temperature in TEMPERATURES:
        forms[f"curvature: T = {temperature:g}"] = variance(expit(rows / temperature)).sum()
        forms[f"curvature: own class, T = {temperature:g}"] = variance(expit(logit(s) / temperature)).sum()
    return {name: float(value) for name, value in forms.items()}


def with_forms(run: PairedRun, folder: Path) -> PairedRun:
    """The run with every form as a score."""
    pair = Pair.build(load_config(folder / "config.yaml"))
    student, columns = pair.student, pair.student.around.classes.columns  # type: ignore[attr-defined]
    index = {image: number for number, image in enumerate(pair.data.image_ids)}
    tables = []
    for image in run.image_ids:
        inputs = [student.preprocess(pair.data.load(index[image]))]
        raw = student.forward(inputs)  # type: ignore[attr-defined]
        (kept,) = student.detect(raw, inputs)  # type: ignore[attr-defined]
        rows = kept.logits[:, columns].astype(np.float64)
        anchors = np.asarray(raw[0][0])[:, columns].astype(np.float64)
        tables.append(forms_of(rows, np.clip(kept.scores.astype(np.float64), 1e-9, 1 - 1e-9), anchors))
    forms = {name: np.array([table[name] for table in tables]) for name in tables[0]}
    return replace(run, scores={CURVATURE: run.scores[CURVATURE], "random": run.scores["random"], **forms})


def judged(folder: Path) -> dict[str, object]:
    """The forms of one run, the best first."""
    run, _ = load_folder(folder)
    task = load_task(run.task).judge()
    run = run if task.mean else with_forms(run, folder)
    names = list(run.scores)
    curves = sweep_all(run, task, names)
    intervals = bootstrap(run, task, names, reference=CURVATURE, replicates=1000 if task.mean else 200)
    first = curves[CURVATURE]
    coin, oracle = area_of(first.random), area_of(first.oracle)
    rows: Mapping[str, object] = {
        name: {
            "area": curve.area(),
            "coin_to_oracle": (curve.area() - coin) / (oracle - coin),
            "minus_energy_curvature": list(intervals.area_difference[name]),
        }
        for name, curve in sorted(curves.items(), key=lambda item: -item[1].area())
    }
    ends = {"student": first.student_quality, "teacher": first.teacher_quality}
    return {"images": len(run), **ends, "coin": coin, "oracle": oracle, "forms": rows}


def main() -> None:
    """Every run, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    results = {folder.name: judged(folder) for folder in parser.parse_args().runs}
    RESULTS.write_text(to_json(results) + "\n")
    for name, result in results.items():
        print(name, result["images"], "images, student", result["student"], "teacher", result["teacher"])
        for form, row in result["forms"].items():  # type: ignore[attr-defined]
            low, high = row["minus_energy_curvature"]
            print(f"  {form:48s} {100 * row['coin_to_oracle']:6.1f} %  [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
