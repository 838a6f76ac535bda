"""What does `score: auto` get beside every score named beforehand? The table of `eval/routing/README.md`.

    python eval/routing/auto.py DATA [--run RUN ...] --out runs/auto

DATA holds `annotations/` and `detections/` of three detectors on 1,444 pictures of COCO; a RUN is the folder
of an evaluation with a named score (scenes, BCCD, CIFAR). Each set is split into two halves, several times by
seed: one half chooses the router, the other is reported, for `auto` and for each score as it is.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ebjr_det.api.auto_router import auto_router
from ebjr_det.api.fit_router import FitSource
from ebjr_det.config import RouterSection
from ebjr_det.config.sections import TargetSection
from ebjr_det.core.cost import CostModel
from ebjr_det.core.scores import ENERGY
from ebjr_det.core.tradeoff import TradeoffCurve, select, sweep_all
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.bootstrap import interval, resampled_areas
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.files import to_json
from ebjr_det.tasks import load_task

PAIRS = (("yolov5n_640", "yolo11n_640"), ("fastestdet_352", "yolo11n_640"), ("fastestdet_352", "yolov5n_640"))
TRUTH = "instances_val2017_half_a_intboxes"
RATES = np.array([0.099, 0.172, 0.298, 0.397, 0.514, 0.826])
TARGET = TargetSection("deferral_rate", 0.3, fraction=0.5)
RESULTS = Path(__file__).parent / "results" / "auto.json"


def saved_pair(data: Path, student: str, teacher: str) -> FitSource:
    """Two detectors' result files."""
    paths = {name: data / "detections" / f"{name}_half_a.json.gz" for name in (student, teacher)}
    files = {"student": paths[student], "teacher": paths[teacher]}
    files["annotations"] = data / "annotations" / f"{TRUTH}.json.gz"
    replay = load_task("detection").replay
    names = replay.class_names(**files)
    scoring = Scoring.load("detection", RouterSection()).bind(names)
    run = replay.load_pair(files, scoring.scores_of_raw, {})
    return FitSource(run, names, len(names), "", teacher, "", scoring.section)


def evaluated_pair(folder: Path) -> FitSource:
    """A finished run."""
    run, analysis = load_folder(folder)
    names = analysis.class_names
    return FitSource(
        run, names, len(names), analysis.student.name, analysis.teacher.name, "", RouterSection()
    )


def share_of_gap(curve: TradeoffCurve, ends: tuple[float, float]) -> FloatArray:
    """G at `RATES`, in parts of student and teacher as they are."""
    quality = np.interp(RATES, curve.deferral_rate, curve.quality)
    return np.asarray((quality - ends[0]) / (ends[1] - ends[0]))


def compared(source: FitSource, seed: int, folder: Path) -> dict[str, object]:
    """Mean G of `auto` and of each score as it is, on the half that chose nothing."""
    run, task = source.run, load_task(source.run.task).judge()
    folder.mkdir(parents=True, exist_ok=True)
    scoring = Scoring.load(run.task, source.section).bind(source.class_names)
    routed = auto_router(source, scoring, TARGET, folder, seed)
    decision, _ = routed.decision(CostModel())
    plain = select(run, task, split(run, TARGET.fraction, seed)[1])
    curves = sweep_all(plain, task, list(plain.scores))
    ends = curves[ENERGY].student_quality, curves[ENERGY].teacher_quality
    gaps = {name: float(share_of_gap(curve, ends).mean()) for name, curve in curves.items()}
    name = routed.scoring.name
    chosen = share_of_gap(sweep_all(routed.reported, task, [name])[name], ends)
    areas, resampled = resampled_areas([(routed.reported, name), (plain, ENERGY)], task, 200, seed)
    difference = interval(np.array(areas[0] - areas[1]), resampled[:, 0] - resampled[:, 1], 0.95)
    return {
        "images": len(plain),
        "score": name,
        "rescaling": routed.use.rescaling if routed.use else "none",
        "auto": float(chosen.mean()),
        "auto_at_rates": chosen.tolist(),
        "fixed": gaps,
        "area_minus_published": [areas[0] - areas[1], *difference.tolist()],
        "share_got": decision.deferral_rate,
    }


def summary(splits: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Means over the splits; the best fixed score in hindsight is picked on these very means."""
    fixed: dict[str, float] = {}
    for name in splits[0]["fixed"]:
        if name != "random":
            fixed[name] = float(np.mean([one["fixed"][name] for one in splits]))
    best = max(fixed, key=lambda name: fixed[name])
    auto = float(np.mean([one["auto"] for one in splits]))
    return {"auto": auto, "best": best, "best_fixed": fixed[best], "published": fixed[ENERGY], "fixed": fixed}


def main() -> None:
    """Every set, every split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, nargs="*", default=[], metavar="RUN")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/auto"))
    args = parser.parse_args()
    sources = {folder.name: evaluated_pair(folder) for folder in args.run}
    sources |= {f"{s}_{t}": saved_pair(args.data, s, t) for s, t in PAIRS}
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, source in sources.items():
        splits = [compared(source, seed, args.out / f"{name}_{seed}") for seed in range(args.splits)]
        results[name] = {**summary(splits), "splits": splits}
        RESULTS.write_text(to_json(results) + "\n")
        print(name, {key: value for key, value in results[name].items() if key not in ("fixed", "splits")})


if __name__ == "__main__":
    main()
