"""Train a small YOLO11 on scenes of handwritten digits, by its own library's loss.

    python eval/detectors/train_yolo.py --out FOLDER [--seconds 900]

Half of the width of `yolo11n`, 128 pixels, from fresh weights on the 4,000 training scenes; no test scene and
no test digit is seen. Stops after so many seconds of processor time; `yolo.safetensors` is written at each
hundredth step and at the end, then graphs for 128 and 64 pixels.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ebjr_det.io.files import writable_folder
from ebjr_det.runtimes.onnx import write_onnx
from ebjr_det.tasks.detection.datasets.digit_scenes import CLASSES, SIDE, draw_scene, lay_out

SIZE, BATCH, SEED = 128, 32, 0
WIDTH = 0.125
"""Of the channels that YOLO11 is written with; `n` has 0.25."""
SCENES = 4000


def build_network(classes: int = len(CLASSES)) -> Any:
    """A YOLO11 of half the width of `n`, its weights fresh."""
    os.environ["YOLO_OFFLINE"] = "true"
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    settings = yaml_model_load("yolo11n.yaml")
    settings["scales"] = {"n": [0.5, WIDTH, 1024]}
    network = DetectionModel(settings, nc=classes, verbose=False)
    network.args = get_cfg()
    network.names = dict(enumerate(CLASSES))
    return network


def load_scenes(count: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Pictures uint8 [count, 3, SIZE, SIZE], and of each its classes and boxes x, y, w, h in shares."""
    pictures, truths = [], []
    for index in range(count):
        pictures.append(np.asarray(draw_scene("train", index).resize((SIZE, SIZE), 2)).transpose(2, 0, 1))
        truth = lay_out("train", index).truth
        boxes = truth.boxes / SIDE
        boxes[:, :2] += boxes[:, 2:] / 2
        truths.append((torch.tensor(truth.labels), torch.tensor(boxes, dtype=torch.float32)))
    return torch.from_numpy(np.stack(pictures)), truths


def batch_of(pictures: Tensor, truths: list[tuple[Tensor, Tensor]], chosen: list[int]) -> dict[str, Tensor]:
    """A batch as the library's loss takes it."""
    return {
        "img": pictures[chosen].float() / 255,
        "batch_idx": torch.cat([torch.full((len(truths[i][0]),), float(n)) for n, i in enumerate(chosen)]),
        "cls": torch.cat([truths[i][0] for i in chosen]).float()[:, None],
        "bboxes": torch.cat([truths[i][1] for i in chosen]),
    }


def train(seconds: float, out: Path) -> Any:
    """Train until so much processor time has gone; the averaged weights are kept."""
    torch.manual_seed(SEED)
    network = build_network().train()
    pictures, truths = load_scenes(SCENES)
    average: Any = torch.optim.swa_utils
    averaged = average.AveragedModel(
        network, multi_avg_fn=average.get_ema_multi_avg_fn(0.99), use_buffers=True
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=5e-4)
    begun, step, share = time.process_time(), 0, 0.0
    while share < 1:
        share = min((time.process_time() - begun) / seconds, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min((step + 1) / 50, 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share)))
        chosen = torch.randint(SCENES, (BATCH,)).tolist()
        loss = network(batch_of(pictures, truths, chosen))[0].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        averaged.update_parameters(network)
        step += 1
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item() / BATCH:.2f}, {share:.0%} of the time", flush=True)
        if step % 100 == 0:
            write_weights(averaged.module, out)
    return averaged.module.eval()


def write_weights(network: Any, out: Path) -> None:
    """Leave the weights as safetensors."""
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, out / "yolo.safetensors")


class Graph(nn.Module):
    """The network as the library's exporter writes it: boxes and probabilities, [n, 4 + classes, cells]."""

    outputs = ("output0",)

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Images [n, 3, h, w] -> rows."""
        return (self.network(images)[0],)


def write_graph(weights: Path, path: Path, side: int) -> None:
    """The weights as an ONNX graph for pictures of a side, with the names of its classes."""
    import onnx

    network = build_network()
    network.load_state_dict(load_file(weights))
    write_onnx(Graph(network.eval().requires_grad_(False)), np.zeros((1, 3, side, side), np.float32), path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"names": str(network.names), "task": "detect"})
    onnx.save(model, path)


def main() -> None:
    """Train, write the weights and the graph."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900.0, help="0: the graphs alone")
    options = parser.parse_args()
    out = writable_folder(options.out)
    if options.seconds:
        write_weights(train(options.seconds, out), out)
    for side in (SIZE, SIZE // 2):
        write_graph(out / "yolo.safetensors", out / f"yolo_{side}.onnx", side)


if __name__ == "__main__":
    main()
