"""Train a tiny detector of transformers on scenes of handwritten digits, by that library's own loss.

    python eval/detectors/train_transformers.py KIND --out FOLDER [--minutes 15] [--device cuda] [--batch 64]

KIND is rt_detr, rt_detr_v2, d_fine, detr or yolos. 128 pixels, fresh weights, the 4,000 training scenes; no
test scene and no test digit is seen. FOLDER/KIND is what `save_pretrained` writes of the averaged weights, so
`arch: transformers/FOLDER/KIND` reads it; beside it `progress.json` has AP on the 200 calibration scenes
along the way. Scenes are drawn once by all processors and kept in FOLDER/scenes-*.npz.
"""

import argparse
import json
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ebjr_det.io.files import writable_folder
from ebjr_det.tasks.detection.data import DetectionSet, build_data
from ebjr_det.tasks.detection.datasets.digit_scenes import CLASSES, SIDE, draw_scene, lay_out
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.model import build_model

SIZE, SCENES, SEED, CHECKED = 128, 4000, 0, 200
LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}


def resnet(library: Any) -> Any:
    """RT-DETR's own residual network, of 16 to 128 channels."""
    return library.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip


def real_time(library: Any, name: str) -> Any:
    """RT-DETR, RT-DETR v2 or D-FINE with 40 queries and a decoder of 2 layers."""
    config = getattr(library, f"{name}Config")(
        backbone_config=resnet(library), freeze_backbone_batch_norms=False, d_model=64, encoder_hidden_dim=64,
        encoder_in_channels=[32, 64, 128], encoder_ffn_dim=128, decoder_ffn_dim=128, hidden_expansion=0.5,
        encoder_attention_heads=4, decoder_attention_heads=4, decoder_layers=2, num_queries=40,
        decoder_in_channels=[64] * 3, num_denoising=30, **LABELS,
    )  # fmt: skip
    return getattr(library, f"{name}ForObjectDetection")(config)


def detr(library: Any) -> Any:
    """DETR over a ConvNeXt, whose norms learn from nothing, at an eighth of the picture's side."""
    backbone = library.ConvNextConfig(
        patch_size=4, hidden_sizes=[48, 96], depths=[2, 3], num_stages=2, out_features=["stage2"]
    )
    config = library.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, d_model=96, encoder_layers=2, decoder_layers=3,
        encoder_ffn_dim=192, decoder_ffn_dim=192, encoder_attention_heads=4, decoder_attention_heads=4,
        num_queries=30, auxiliary_loss=True, dropout=0.0, **LABELS,
    )  # fmt: skip
    return library.DetrForObjectDetection(config)


def yolos(library: Any) -> Any:
    """YOLOS: a transformer of 256 patches and 30 tokens of detections."""
    config = library.YolosConfig(
        hidden_size=96, num_hidden_layers=6, num_attention_heads=4, intermediate_size=192, patch_size=8,
        image_size=[SIZE, SIZE], num_detection_tokens=30, use_mid_position_embeddings=False, **LABELS,
    )  # fmt: skip
    return library.YolosForObjectDetection(config)


class Recipe(NamedTuple):
    """How a kind is built and trained: the largest learning rate, and the norm that gradients end at."""

    build: Any
    processor: str
    rate: float
    norm: float


RECIPES = {
    "rt_detr": Recipe(lambda library: real_time(library, "RTDetr"), "RTDetr", 1e-3, 1.0),
    "rt_detr_v2": Recipe(lambda library: real_time(library, "RTDetrV2"), "RTDetr", 1e-3, 1.0),
    "d_fine": Recipe(lambda library: real_time(library, "DFine"), "RTDetr", 1e-3, 1.0),
    "detr": Recipe(detr, "Detr", 1e-3, 0.5),
    "yolos": Recipe(yolos, "Yolos", 1e-3, 0.5),
}


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
    """AP of what is saved in a folder, by this project's own adapter, on the calibration scenes."""
    model, judge = build_model(data, f"transformers/{folder}"), AveragePrecision()
    answers: list[Any] = []
    for start in range(0, CHECKED, 20):
        inputs = [model.preprocess(data.load(index)) for index in range(start, start + 20)]
        answers += model(inputs).predictions
    return judge.metrics(judge.match(answers, [data.target(index) for index in range(CHECKED)]))["AP"]


class Training:
    """One network, its averaged twin, and the clock."""

    def __init__(self, kind: str, out: Path, options: argparse.Namespace) -> None:
        import transformers as library

        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        torch.manual_seed(SEED)
        self.kind, self.out, self.options, self.recipe = kind, out / kind, options, RECIPES[kind]
        self.network = self.recipe.build(library).to(options.device).train().requires_grad_(True)
        average: Any = torch.optim.swa_utils
        self.averaged = average.AveragedModel(
            self.network, multi_avg_fn=average.get_ema_multi_avg_fn(0.998), use_buffers=True
        )
        processor = getattr(library, f"{self.recipe.processor}ImageProcessorPil")
        plain = {} if kind in ("rt_detr", "rt_detr_v2", "d_fine") else {"do_pad": False}
        statistics = {"do_normalize": False, "do_rescale": True}
        self.processor = processor(size={"height": SIZE, "width": SIZE}, **statistics, **plain)
        self.pictures, self.targets = load_scenes(out, options.scenes, options.device)
        self.data = build_data("digit_scenes", split="calibration")
        self.progress: list[dict[str, float]] = []

    def run(self) -> None:
        """Train until the minutes are over, of the processor or, on a GPU, of the clock; checks cost none."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.recipe.rate, weight_decay=1e-4)
        now = time.process_time if self.options.device == "cpu" else time.monotonic
        seconds, begun, step, share, seen = 60 * self.options.minutes, now(), 0, 0.0, 0
        while share < 1:
            share = min((now() - begun) / seconds, 1.0)
            rate = min((step + 1) / 100, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate * rate
            loss: Any = self.loss()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.norm)
            optimizer.step()
            self.averaged.update_parameters(self.network)
            step += 1
            if share * self.options.checks >= seen + 1 or share == 1:
                seen, stopped = seen + 1, now()
                self.check(step, share, loss.item())
                begun += now() - stopped

    def loss(self) -> Any:
        """The library's loss of the next pictures, each a little brighter or darker."""
        chosen = torch.randint(len(self.targets), (self.options.batch,)).tolist()
        pixels = self.pictures[chosen].float() / 255
        ends = torch.rand(2, len(chosen), 3, 1, 1, device=pixels.device)
        pixels = pixels * (0.8 + 0.4 * ends[0]) + 0.2 * (ends[1] - 0.5)
        return self.network(pixel_values=pixels, labels=[self.targets[index] for index in chosen]).loss

    def check(self, step: int, share: float, loss: float) -> None:
        """Leave the averaged weights, and AP with them."""
        self.averaged.module.save_pretrained(self.out)
        self.processor.save_pretrained(self.out)
        quality = measure_ap(self.out, self.data)
        self.progress.append(
            {"step": step, "minutes": share * self.options.minutes, "loss": loss, "AP": quality}
        )
        (self.out / "progress.json").write_text(json.dumps(self.progress, indent=1))
        print(
            f"{self.kind} step {step}: loss {loss:.3f}, AP {quality:.4f}, {share:.0%} of the time", flush=True
        )


def main() -> None:
    """Train one kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=RECIPES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0, help="0: the scenes alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--scenes", type=int, default=SCENES, help="how many are drawn; the split has 4,000")
    parser.add_argument("--checks", type=int, default=10, help="how often AP is measured")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    out = writable_folder(options.out)
    if options.minutes:
        Training(options.kind, out, options).run()
    else:
        load_scenes(out, options.scenes, "cpu")


if __name__ == "__main__":
    main()
