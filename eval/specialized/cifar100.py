"""Does a specialised student pay on CIFAR-100 at 70 % popular traffic? Against the published pair, honestly.

    python eval/specialized/cifar100.py DATA [--out runs/specialized] [--student NAME_OR_FILE]

DATA holds CIFAR-100's python files; EBJR's two checkpoints lie in a checkpoint folder. Evaluates the specialised pair
(configs/cifar100_top20.yaml), the published general pair, and both with the traffic told to them: a softmax
that was trained on balanced classes is off by the logarithm of the mix, which costs nothing to add to its logits.
Everything is weighted to the traffic, on the pictures that the specialised pair's threshold did not see.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ebjr_det import api
from ebjr_det.api.mixes import AskedMix
from ebjr_det.config import EvaluateConfig, load_config
from ebjr_det.cost import CostModel, count_macs
from ebjr_det.files import writable_folder, write_text
from ebjr_det.pair import build_models, popular_of
from ebjr_det.reporting.table import Table
from ebjr_det.tasks.classification.data import ImageSet, build_data

ROOT = Path(__file__).resolve().parents[2]
SHARE, RATES, BATCH = 0.7, (0.4,), 500
SCORES = ("max_softmax", "free_energy")


def logits_of(model: Any, data: ImageSet) -> NDArray[np.float32]:
    """[images, classes] of a model."""
    found = []
    for at in tqdm(range(0, len(data), BATCH), desc=model.name):
        inputs = [model.preprocess(data.load(index)) for index in range(at, min(at + BATCH, len(data)))]
        found.append(model(inputs).logits.values[:, 0])
    return np.concatenate(found)


def told(logits: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logits of balanced training -> of the mix: plus log(share x classes) of each class."""
    return (logits + np.log(shares * len(shares))).astype(np.float32)


def save(folder: Path, name: str, data: ImageSet, **arrays: NDArray[Any]) -> Path:
    """Logits or labels with the ids of their images."""
    path = folder / f"{name}.npz"
    np.savez_compressed(path, image_ids=np.array(data.image_ids), **arrays)  # type: ignore[arg-type]
    return path


def macs_of(model: Any, data: ImageSet) -> float:
    """Multiply-adds an image."""
    return float(count_macs(lambda: model([model.preprocess(data.load(0))])))


def main() -> None:
    """Evaluate, replay, compare; the folder then has a run a row and `traffic_*` with the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--student", help="Weights; by default those that come with the project.")
    parser.add_argument("--out", type=Path, default=Path("runs/specialized"))
    args = parser.parse_args()
    out = writable_folder(args.out)
    here = [f"data.root={args.data}", "latency.measure=false"]
    mine = [f"student.checkpoint={args.student}"] if args.student else []
    special = load_config(ROOT / "configs" / "cifar100_top20.yaml", [*here, *mine])
    general = load_config(ROOT / "configs" / "cifar100_densenet.yaml", here)
    for score in SCORES:
        for other in (True, False):
            how = {"score": score, "other_logit": other, "threshold": None}
            router = special.router.model_copy(update=how)
            name = f"{score}_{'with' if other else 'without'}_other"
            api.evaluate(special.model_copy(update={"router": router}), out / name)
    rivals = replays(special, general, out)
    for score in SCORES:
        first = out / f"{score}_with_other"
        api.traffic([first, *rivals[score]], out / f"traffic_{score}", AskedMix(share=SHARE))
    variants(out)


def replays(special: EvaluateConfig, general: EvaluateConfig, out: Path) -> dict[str, list[Path]]:
    """The general pair as published and told of the traffic, and the specialised one with a teacher told."""
    data = build_data(**dict(special.data))
    student, teacher = build_models(general, data, "cpu")
    specialist = build_models(special, data, "cpu")[0]
    popular = popular_of(special.student, data)
    assert popular is not None
    shares = np.full(data.num_classes, (1 - SHARE) / (data.num_classes - popular.other))
    shares[list(popular.classes)] = SHARE / popular.other
    files = writable_folder(out / "logits")
    own, theirs = logits_of(student, data), logits_of(teacher, data)
    answers = {
        "general": save(files, "general", data, logits=own),
        "general_told": save(files, "general_told", data, logits=told(own, shares)),
        "specialised": save(files, "specialised", data, logits=logits_of(specialist, data)),
        "teacher": save(files, "teacher", data, logits=theirs),
        "teacher_told": save(files, "teacher_told", data, logits=told(theirs, shares)),
    }
    labels = save(files, "labels", data, labels=data.labels, class_names=np.array(data.class_names))
    costs = {name: macs_of(model, data) for name, model in (("general", student), ("special", specialist))}
    dear = macs_of(teacher, data)
    made: dict[str, list[Path]] = {}
    for score in SCORES:
        rows = {
            "general": ("general", "teacher", None),
            "general_told": ("general_told", "teacher_told", None),
            "specialised_told": ("specialised", "teacher_told", list(popular.names)),
        }
        for name, (first, second, classes) in rows.items():
            place = out / f"{name}_{score}"
            paths = {"student": answers[first], "teacher": answers[second], "labels": labels}
            cost = CostModel(costs["special" if classes else "general"], dear)
            api.replay("classification", paths, place, score=score, popular=classes, rates=RATES, cost=cost)
            made.setdefault(score, []).append(place)
    return made


def variants(out: Path) -> None:
    """One table of the specialised pair's scores, with and without the logit of "other"."""
    rows = []
    for score in SCORES:
        for other in ("with", "without"):
            shown = api.traffic(
                [out / f"{score}_{other}_other"],
                out / f"traffic_{score}_{other}_other",
                AskedMix(share=SHARE),
            ).report
            at = shown.runs[0].at
            rows.append(
                (
                    score,
                    other,
                    f"{100 * at.joint:.2f}",
                    f"{100 * at.deferral_rate:.2f}",
                    f"{(at.macs or 0) / 1e6:.1f}",
                )
            )
    table = Table(
        "Scores of the specialised pair",
        ("score", "logit of other", "accuracy %", "deferred %", "MMACs"),
        rows,
    )
    write_text(out / "variants.md", table.markdown() + "\n")
    print(table.markdown())


if __name__ == "__main__":
    main()
