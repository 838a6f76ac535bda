"""Which router pays? The tables and the figure of `eval/routing/README.md`.

    python eval/routing/run.py DATA [--cifar RUN ...] --out runs/routing

DATA holds `annotations/` and `detections/` with COCO-format files of FastestDet, YOLOv5n and YOLO11n; a RUN
is the folder of `ebjr-det evaluate configs/cifar10_densenet.yaml` (or CIFAR-100). Detection: five folds, all
out of fold; then one half fitted, the other half replayed. Classification: two folds, so each half is
reported by a router that was fitted on the other.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np

import ebjr_det
from ebjr_det.api.fit_router import FitSettings, FittedResult
from ebjr_det.api.references import ReferenceFile
from ebjr_det.config import RouterSection
from ebjr_det.core.cost import CostModel
from ebjr_det.evaluation.bootstrap import bootstrap
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.io.files import to_json
from ebjr_det.reporting.style import BLUE, GREY, INK, STYLE, VERMILLION, new_figure, save_figure
from ebjr_det.reporting.tables import further_tables
from ebjr_det.tasks import load_task

MACS = {"fastestdet_352": 0.25e9, "yolov5n_640": 2.25e9, "yolo11n_640": 3.25e9}
PAIRS = (
    ("yolov5n_640", "yolo11n_640"),
    ("fastestdet_352", "yolo11n_640"),
    ("fastestdet_352", "yolov5n_640"),
)
TRUTH = "instances_val2017_half_a_intboxes"
PUBLISHED = load_task("detection").routing.PUBLISHED_GAP
RATES = (0.615, *PUBLISHED)  # at 61.5 % FastestDet and YOLO11n cost as much as YOLOv5n
DRAWN = {"learned": (BLUE, "-"), "class_curvature": ("#009E73", "-"), "free_energy": (VERMILLION, "-")}
RESULTS = Path(__file__).parent / "results"


def files(data: Path, student: str, teacher: str, half: str = "half_a") -> dict[str, str | Path]:
    """The three files of a pair."""
    truth = (
        data / "annotations" / f"{TRUTH}.json.gz" if half == "half_a" else data / f"{TRUTH}_{half}.json.gz"
    )
    folder = data / "detections" if half == "half_a" else data
    return {
        "annotations": truth,
        "student": folder / f"{student}_{half}.json.gz",
        "teacher": folder / f"{teacher}_{half}.json.gz",
    }


def fit(data: Path, student: str, teacher: str, out: Path, **how: Any) -> FittedResult:
    """Fit and report a pair on half_a, or on a half of it."""
    cost = CostModel(MACS[student], MACS[teacher])
    name = f"{student}_{teacher}"
    report = out / name if "half" not in how else None
    own = files(data, student, teacher, **how)
    references: tuple[ReferenceFile, ...] = ()
    if (student, teacher) == PAIRS[1] and report is not None:
        middle = data / "detections" / "yolov5n_640_half_a.json.gz"
        references = (ReferenceFile("YOLOv5n", MACS["yolov5n_640"], file=middle),)
    outputs = ebjr_det.SavedOutputs("detection", own, references)
    settings = FitSettings(cost=cost, rates=RATES)
    return ebjr_det.fit_router(outputs, out / f"{name}.safetensors", settings, report)


def write_tables(result: FittedResult, stem: Path) -> None:
    """The ranked table and, where there is one, that of the margins; and all of it as JSON."""
    tables = [result.trial.table(), *further_tables(result.trial.report)]
    text = "\n\n".join(f"## {table.title}\n\n{table.markdown()}" for table in tables)
    stem.with_suffix(".md").write_text(text + "\n")
    stem.with_suffix(".json").write_text(to_json(result.trial.evidence()) + "\n")


def halves(data: Path, out: Path) -> None:
    """The pictures of half_a in two random parts, as files of their own: `first` and `second`."""
    truth = _read(data / "annotations" / f"{TRUTH}.json.gz")
    ids = np.random.default_rng(0).permutation([image["id"] for image in truth["images"]])
    for half, own in (("first", set(ids[::2].tolist())), ("second", set(ids[1::2].tolist()))):
        part = {
            "images": [image for image in truth["images"] if image["id"] in own],
            "annotations": [a for a in truth["annotations"] if a["image_id"] in own],
            "categories": truth["categories"],
        }
        _write(part, out / f"{TRUTH}_{half}.json.gz")
        for detector in MACS:
            found = _read(data / "detections" / f"{detector}_half_a.json.gz")
            _write([d for d in found if d["image_id"] in own], out / f"{detector}_{half}.json.gz")


def replay_other_half(data: Path, student: str, teacher: str, out: Path) -> dict[str, Any]:
    """A router fitted on the first half at work on the second: quality, margin and drift."""
    fitted = fit(data, student, teacher, out, half="first")
    result = ebjr_det.replay(
        ebjr_det.SavedOutputs("detection", files(data, student, teacher, "second")),
        out / f"{student}_{teacher}_second",
        ebjr_det.ReplaySettings(
            RouterSection(file=str(fitted.path)),
            rates=list(PUBLISHED),
            cost=CostModel(MACS[student], MACS[teacher]),
            replicates=100,
        ),
    )
    summary = result.summary
    return {
        "score": summary["score"],
        "rescaling": summary["router"]["rescaling"],
        "gap_recovered": {f"{p['deferral_rate']:.3f}": p["gap_recovered"] for p in summary["points"]},
        "coin_to_oracle": summary["coin_to_oracle"],
        "drift": summary["router"]["drift"],
    }


def against_max_softmax(run_dir: Path) -> dict[str, Any]:
    """Out-of-fold area of every score minus that of max-softmax, with paired intervals over images."""
    run, _ = load_folder(run_dir)
    names = list(run.scores)
    found = bootstrap(run, load_task(run.task).judge(), names, reference="max_softmax", replicates=1000)
    return {name: list(ends) for name, ends in found.area_difference.items()}


def draw(out: Path) -> None:
    """Share of the gap against deferral rate, both pairs, beside what was published."""
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = new_figure("Share of the gap that routers recover, out of fold", 3.9)
        figure.delaxes(axes)
        for place, (student, teacher) in enumerate(PAIRS[:2]):
            axes = figure.add_subplot(1, 2, place + 1)
            curve = json.loads((out / f"{student}_{teacher}" / "curve.json").read_text())
            low, high = (
                json.loads((RESULTS / f"{student}_{teacher}.json").read_text())[f"{side}_quality"]
                for side in ("student", "teacher")
            )
            for name, (color, line) in DRAWN.items():
                own = curve["curves"][name]
                gap = (np.array(own["quality"]) - low) / (high - low)
                axes.plot(
                    100 * np.array(own["deferral_rate"]), 100 * gap, line, color=color, label=name, lw=1.8
                )
            rate = np.linspace(0, 100, curve["images"] + 1)
            for name, dash in (("random", "--"), ("oracle", ":")):
                gap = (np.array(curve[name]) - low) / (high - low)
                axes.plot(rate, 100 * gap, dash, color=GREY, label=name, lw=1.2)
            published = 100 * np.array(list(PUBLISHED)), 100 * np.array(list(PUBLISHED.values()))
            axes.plot(*published, "s", color=INK, ms=4, label="EBJR, published\n(D0, D4)")
            title = f"{student.split('_')[0]} -> {teacher.split('_')[0]}"
            axes.set(title=title, xlabel="deferral rate (%)", ylim=(-5, 120))
            if place == 0:
                axes.set_ylabel("share of the gap (%)")
            else:
                axes.legend(frameon=False, loc="lower right")
        save_figure(figure, RESULTS / "gap", "Share of the gap that routers recover")


def _read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def _write(content: Any, path: Path) -> None:
    path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


def main() -> None:
    """Everything, in the order of the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--cifar", type=Path, nargs="*", default=[], metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path("runs/routing"))
    args = parser.parse_args()
    split = args.out / "halves"
    split.mkdir(parents=True, exist_ok=True)
    for student, teacher in PAIRS:
        write_tables(fit(args.data, student, teacher, args.out), RESULTS / f"{student}_{teacher}")
    draw(args.out)
    halves(args.data, split)
    other = {f"{s}_{t}": replay_other_half(split, s, t, split) for s, t in PAIRS}
    (RESULTS / "other_half.json").write_text(to_json(other) + "\n")
    for run in args.cifar:
        report = args.out / f"{run.name}_out_of_fold"
        settings = FitSettings(folds=2, replicates=1000)
        result = ebjr_det.fit_router(run, args.out / f"{run.name}.safetensors", settings, report)
        write_tables(result, RESULTS / run.name)
        (RESULTS / f"{run.name}_against_max_softmax.json").write_text(
            to_json(against_max_softmax(report)) + "\n"
        )


if __name__ == "__main__":
    main()
