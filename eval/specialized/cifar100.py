"""Does a specialised student pay on CIFAR-100 at 70 % popular traffic? Against the published pair, honestly.

    python eval/specialized/cifar100.py DATA [--out runs/specialized] [--student NAME_OR_FILE]

DATA holds CIFAR-100's python files; EBJR's two checkpoints lie in a checkpoint folder. Three networks see the
test set once; all else is replayed from their logits and weighted to the traffic: the specialised pair, the
published general pair, and both told of the traffic (a softmax that was trained on balanced classes is off by
the logarithm of the mix, which costs nothing to add to its logits). Thresholds follow from a deferral rate,
which needs no label.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import ebjr_det
from ebjr_det.config import EvaluateConfig, RouterSection, StatedMix
from ebjr_det.core.cost import CostModel
from ebjr_det.inference.pair import build_models, popular_of
from ebjr_det.io.files import writable_folder, write_text
from ebjr_det.reporting.table import Table
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks.classification.data import ImageSet, build_data
from ebjr_det.tasks.settings import load_config

ROOT = Path(__file__).resolve().parents[2]
SHARE, BATCH = 0.7, 500
SPECIAL_RATE, GENERAL_RATE = 0.8, 0.4  # of CIFAR-100 as it is, where 80 % show a class that is not popular
SCORES = ("max_softmax", "free_energy")


def main() -> None:
    """Run the networks, replay, compare: a run folder for every row, and `traffic_*` with the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--student", help="Weights; by default those that come with the project.")
    parser.add_argument("--out", type=Path, default=Path("runs/specialized"))
    args = parser.parse_args()
    out = writable_folder(args.out)
    mine = [f"student.checkpoint={args.student}"] if args.student else []
    special = load_config(ROOT / "configs" / "cifar100_top20.yaml", [f"data.root={args.data}", *mine])
    general = load_config(ROOT / "configs" / "cifar100_densenet.yaml", [f"data.root={args.data}"])
    saved = Saved.make(special, general, writable_folder(out / "logits"))
    for score in SCORES:
        runs = {name: saved.replay(name, score, out / score / name) for name in PAIRS}
        asked = StatedMix(popular=saved.popular, share=SHARE)
        ebjr_det.traffic([runs["specialised"], runs["general"]], out / f"traffic_{score}", asked)
        all_told = [runs["specialised told"], runs["general told"]]
        ebjr_det.traffic(all_told, out / f"traffic_{score}_told", asked)
    rows = []
    for score in SCORES:
        for other in (True, False):
            place = out / f"{score}_{'with' if other else 'without'}_other"
            run = saved.replay("specialised", score, place, other_logit=other)
            mix = StatedMix(share=SHARE)
            at = ebjr_det.traffic([run], place / "traffic", mix, replicates=100).report.runs[0].at
            cells = (100 * at.joint, 100 * at.deferral_rate, (at.macs or 0) / 1e6)
            rows.append((score, "yes" if other else "no", *(f"{cell:.2f}" for cell in cells)))
    columns = ("score", "sees the logit of other", "accuracy %", "deferred %", "MMACs")
    text = Table("", columns, rows).markdown()
    write_text(out / "variants.md", text + "\n")
    print(text)


PAIRS = {
    # name: whose logits student's and teacher's are, and whether the student is the specialised one
    "specialised": ("specialised", "teacher", True),
    "general": ("general", "teacher", False),
    "specialised told": ("specialised", "teacher_told", True),
    "general told": ("general_told", "teacher_told", False),
}


class Saved:
    """The three networks' logits as files, and what the networks cost."""

    def __init__(
        self, folder: Path, popular: list[str | int], special: CostModel, general: CostModel
    ) -> None:
        self.folder, self.popular = folder, popular
        self.costs = {True: special, False: general}

    @classmethod
    def make(cls, special: EvaluateConfig, general: EvaluateConfig, folder: Path) -> "Saved":
        """Every network on every test image, once."""
        data = build_data(**dict(special.data))
        student, teacher = build_models(general, data, "cpu")
        specialist = build_models(special, data, "cpu")[0]
        popular = popular_of(special.student, data)
        assert popular is not None
        shares = np.full(data.num_classes, (1 - SHARE) / (data.num_classes - popular.other))
        shares[list(popular.classes)] = SHARE / popular.other
        own, theirs = logits_of(student, data), logits_of(teacher, data)
        for name, logits in {
            "general": own,
            "teacher": theirs,
            "general_told": told(own, shares),
            "teacher_told": told(theirs, shares),
            "specialised": logits_of(specialist, data),
        }.items():
            save(folder / f"{name}.npz", data, logits=logits)
        save(folder / "labels.npz", data, labels=data.labels, class_names=np.array(data.class_names))
        dear = macs_of(teacher, data.load(0))
        costs = (CostModel(macs_of(model, data.load(0)), dear) for model in (specialist, student))
        return cls(folder, list(popular.names), *costs)

    def replay(self, name: str, score: str, out: Path, *, other_logit: bool = True) -> Path:
        """One of `PAIRS` replayed; returns its run folder."""
        student, teacher, special = PAIRS[name]
        files = {"student": student, "teacher": teacher, "labels": "labels"}
        saved = {side: self.folder / f"{file}.npz" for side, file in files.items()}
        ebjr_det.replay(
            ebjr_det.SavedOutputs("classification", saved),
            out,
            ebjr_det.ReplaySettings(
                RouterSection(score=score, other_logit=other_logit),
                popular=self.popular if special else None,
                rates=(SPECIAL_RATE if special else GENERAL_RATE,),
                cost=self.costs[special],
            ),
        )
        return out


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


def save(path: Path, data: ImageSet, **arrays: NDArray[Any]) -> None:
    """Logits or labels with the ids of their images."""
    np.savez_compressed(path, image_ids=np.array(data.image_ids), **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
