"""Train a tiny detector of transformers on scenes of handwritten digits, by that library's own loss.

    python eval/detectors/train_transformers.py KIND --out FOLDER [--minutes 10] [--device cuda] [--batch 16]

KIND is rt_detr, rt_detr_v2, d_fine, deformable_detr, conditional_detr or detr. The backbone is that of the
quickstart's student, trained on the same 4,000 scenes; it stays as it is, so that its maps of a scene are
calculated once. All behind it begins from fresh weights. 128 pixels; no test scene and no test digit is seen.
FOLDER/KIND is what `save_pretrained` writes of the averaged weights, so `transformers/FOLDER/KIND` is its
`arch`; beside it `progress.json` has AP on calibration scenes along the way.
"""

import argparse
import json
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ebjr_det.io.checkpoints.finding import find_checkpoint
from ebjr_det.io.files import writable_folder
from ebjr_det.tasks.detection.data import DetectionSet, build_data
from ebjr_det.tasks.detection.datasets.digit_scenes import CLASSES, SIDE, draw_scene, lay_out
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.model import build_model

SIZE, SCENES, SEED, CHECKED = 128, 4000, 0, 100
BACKBONE, LEVELS, WIDTHS = "test_resnet", (2, 3, 4), [48, 192, 96]
"""Of timm: the student's backbone, which of its maps are taken, and their channels."""
CHECKPOINT, RATE = "scenes-student", 1e-3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}


def backbone(library: Any, levels: tuple[int, ...]) -> Any:
    """The settings of the student's backbone, of the maps at an eighth, a sixteenth ... of the side."""
    return library.TimmBackboneConfig(backbone=BACKBONE, out_indices=levels, use_pretrained_backbone=False)


def real_time(library: Any, name: str) -> Any:
    """RT-DETR, RT-DETR v2 or D-FINE with 30 queries and a decoder of 2 layers."""
    config = getattr(library, f"{name}Config")(
        backbone_config=backbone(library, LEVELS), d_model=64,
        encoder_hidden_dim=64, encoder_in_channels=WIDTHS, encoder_ffn_dim=128, decoder_ffn_dim=128,
        hidden_expansion=0.5, encoder_attention_heads=4, decoder_attention_heads=4, decoder_layers=2,
        num_queries=30, decoder_in_channels=[64] * 3, num_denoising=20, **LABELS,
    )  # fmt: skip
    return getattr(library, f"{name}ForObjectDetection")(config)


def with_queries(library: Any, name: str) -> Any:
    """DETR, Conditional DETR or Deformable DETR with 30 queries and a decoder of 3 layers."""
    levels = LEVELS if name == "DeformableDetr" else LEVELS[1:2]
    config = getattr(library, f"{name}Config")(
        use_timm_backbone=False, backbone_config=backbone(library, levels), d_model=64, encoder_layers=1,
        decoder_layers=3, encoder_ffn_dim=128, decoder_ffn_dim=128, encoder_attention_heads=4,
        decoder_attention_heads=4, num_queries=30, auxiliary_loss=True, dropout=0.0, **LABELS,
    )  # fmt: skip
    return getattr(library, f"{name}ForObjectDetection")(config)


KINDS: dict[str, tuple[Any, str]] = {
    "rt_detr": (partial(real_time, name="RTDetr"), "RTDetr"),
    "rt_detr_v2": (partial(real_time, name="RTDetrV2"), "RTDetr"),
    "d_fine": (partial(real_time, name="DFine"), "RTDetr"),
    "deformable_detr": (partial(with_queries, name="DeformableDetr"), "DeformableDetr"),
    "conditional_detr": (partial(with_queries, name="ConditionalDetr"), "ConditionalDetr"),
    "detr": (partial(with_queries, name="Detr"), "Detr"),
}
"""Kind -> how its network is built, and whose preprocessing it has."""


def draw(index: int) -> tuple[Any, Any, Any]:
    """Scene of a number: pixels [3, SIZE, SIZE], classes, boxes cx, cy, w, h in shares of the picture."""
    picture = np.asarray(draw_scene("train", index).resize((SIZE, SIZE), 2)).transpose(2, 0, 1)
    truth = lay_out("train", index).truth
    boxes = truth.boxes / SIDE
    boxes[:, :2] += boxes[:, 2:] / 2
    return picture, truth.labels, boxes.astype(np.float32)


def load_scenes(folder: Path, count: int, device: str) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Pictures uint8 [count, 3, SIZE, SIZE] and labels as the library takes them; drawn where not kept."""
    path = folder / f"scenes-{count}.npz"
    if not path.exists():
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            scenes = list(pool.map(draw, range(count), chunksize=50))
        pictures, labels, boxes = zip(*scenes, strict=True)
        ends = np.cumsum([len(row) for row in labels])
        part = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(
            part, pictures=pictures, labels=np.concatenate(labels), boxes=np.concatenate(boxes), ends=ends
        )
        part.replace(path)
    kept = np.load(path)
    truths = {key: torch.from_numpy(kept[key]).to(device) for key in ("labels", "boxes")}
    starts = [0, *kept["ends"][:-1]]
    targets = [
        {"class_labels": truths["labels"][start:end], "boxes": truths["boxes"][start:end]}
        for start, end in zip(starts, kept["ends"], strict=True)
    ]
    return torch.from_numpy(kept["pictures"]).to(device), targets


def measure_ap(folder: Path, data: DetectionSet) -> float:
    """AP of what is saved in a folder, by this project's own adapter, on calibration scenes."""
    model, judge = build_model(data, f"transformers/{folder}"), AveragePrecision()
    answers: list[Any] = []
    for start in range(0, CHECKED, 20):
        inputs = [model.preprocess(data.load(index)) for index in range(start, start + 20)]
        answers += model(inputs).predictions
    return judge.metrics(judge.match(answers, [data.target(index) for index in range(CHECKED)]))["AP"]


class Maps(list[Tensor]):
    """Maps of a backbone, as the library's two kinds of backbones give them."""

    @property
    def feature_maps(self) -> list[Tensor]:
        """The maps, largest first."""
        return self


class Kept(nn.Module):
    """A backbone whose maps of all scenes are kept; `chosen` are those of the batch."""

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self.maps, self.chosen = maps, torch.arange(1)

    def forward(self, images: Tensor) -> Maps:
        """Maps of the chosen scenes, whatever the images."""
        return Maps(level[self.chosen] for level in self.maps)


def keep_maps(backbone: nn.Module, pictures: Tensor) -> Kept:
    """The backbone with the student's weights at work on all pictures, once."""
    student = {
        key.removeprefix("backbone."): value.float()
        for key, value in load_file(find_checkpoint(CHECKPOINT)).items()
        if key.startswith("backbone.") and not key.endswith("num_batches_tracked")
    }
    inner: Any = getattr(backbone, "_backbone", backbone)
    missing, _ = inner.load_state_dict(student, strict=False)  # DETR has no fourth level
    assert not [key for key in missing if not key.endswith("num_batches_tracked")]
    mean, std = (torch.tensor(row, device=pictures.device).view(3, 1, 1) for row in (MEAN, STD))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 100):
            pixels = (pictures[start : start + 100].float() / 255 - mean) / std
            maps: Any = backbone.eval()(pixels)
            parts.append(list(getattr(maps, "feature_maps", maps)))
    return Kept([torch.cat(level).clone() for level in zip(*parts, strict=True)])


class Training:
    """One network, its averaged twin, and the clock."""

    def __init__(self, kind: str, out: Path, options: argparse.Namespace) -> None:
        import transformers as library

        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        torch.manual_seed(SEED)
        build, name = KINDS[kind]
        self.kind, self.out, self.options = kind, out / kind, options
        network: Any = build(library).to(options.device).train().requires_grad_(True)
        self.pictures, self.targets = load_scenes(out, options.scenes, options.device)
        self.kept = keep_maps(network.model.backbone.model, self.pictures)
        self.network, self.averaged = network, deepcopy(network).eval()
        network.model.backbone.model = self.kept
        plain = {} if name == "RTDetr" else {"do_pad": False}
        statistics = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "do_rescale": True}
        processor = getattr(library, f"{name}ImageProcessorPil")
        self.processor = processor(size={"height": SIZE, "width": SIZE}, **statistics, **plain)
        self.data = build_data(dataset="digit_scenes", split="calibration")
        self.progress: list[dict[str, float]] = []

    def run(self) -> None:
        """Train until the minutes are over, of the processor or, on a GPU, of the clock; checks cost none."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=RATE, weight_decay=1e-4)
        now = time.process_time if self.options.device == "cpu" else time.monotonic
        seconds, begun, step, share, seen = 60 * self.options.minutes, now(), 0, 0.0, 0
        while share < 1:
            share = min((now() - begun) / seconds, 1.0)
            rate = min((step + 1) / 100, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
            for group in optimizer.param_groups:
                group["lr"] = RATE * rate
            loss: Any = self.loss()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimizer.step()
            step += 1
            self.average(min(0.995, step / (step + 10)))
            if share * self.options.checks >= seen + 1 or share == 1:
                seen, stopped = seen + 1, now()
                self.check(step, share, loss.item())
                begun += now() - stopped

    def loss(self) -> Any:
        """The library's loss of scenes at random."""
        chosen = torch.randint(len(self.targets), (self.options.batch,))
        self.kept.chosen = chosen.to(self.pictures.device)
        labels = [self.targets[index] for index in chosen.tolist()]
        return self.network(pixel_values=self.pictures[self.kept.chosen].float(), labels=labels).loss

    def average(self, old: float) -> None:
        """Move the averaged weights, statistics too, a little towards the present ones."""
        averaged = self.averaged.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                averaged[name].lerp_(value, 1 - old)

    def check(self, step: int, share: float, loss: float) -> None:
        """Leave the averaged weights, and AP with them."""
        self.averaged.save_pretrained(self.out)
        self.processor.save_pretrained(self.out)
        quality = measure_ap(self.out, self.data)
        self.progress.append(
            {"step": step, "minutes": share * self.options.minutes, "loss": loss, "AP": quality}
        )
        (self.out / "progress.json").write_text(json.dumps(self.progress, indent=1))
        print(f"{self.kind} step {step}: loss {loss:.3f}, AP {quality:.4f}, {share:.0%}", flush=True)


def main() -> None:
    """Train one kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="0: the scenes alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scenes", type=int, default=SCENES, help="how many are drawn; the split has 4,000")
    parser.add_argument("--checks", type=int, default=5, help="how often AP is measured")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    out = writable_folder(options.out)
    if options.minutes:
        Training(options.kind, out, options).run()
    else:
        load_scenes(out, options.scenes, "cpu")


if __name__ == "__main__":
    main()
