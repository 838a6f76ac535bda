"""Train three classifiers on scikit-learn's handwritten digits: the recipe behind checkpoints/digits.

    python eval/digits/train.py [--out checkpoints]

The networks of configs/digits_tiers.yaml see the 597 training digits only, for a fixed number of epochs;
nothing was chosen by looking at the 1,200 test digits. Takes about a minute on two cores and prints the
checksums for the manifest.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from ebjr_det.config.tiers import tiers_of
from ebjr_det.io.files import atomic_write, checksum, writable_folder
from ebjr_det.tasks.classification.data import build_data
from ebjr_det.tasks.classification.model import TorchClassifier, build_model
from ebjr_det.tasks.settings import load_config

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "digits_tiers.yaml"
EPOCHS, BATCH, SEED = 60, 32, 0


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to one pixel either way, edges repeated."""
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    moves = torch.randint(3, (len(images), 2), generator=generator).tolist()
    return torch.stack([p[:, y : y + 8, x : x + 8] for p, (y, x) in zip(padded, moves, strict=True)])


def fit(network: nn.Module, images: Tensor, labels: Tensor, name: str) -> None:
    """AdamW with one cycle of the learning rate and cross-entropy, seeded."""
    generator = torch.Generator().manual_seed(SEED)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    network.train()
    with tqdm(total=steps, desc=name, unit="step") as bar:
        for _ in range(EPOCHS):
            order = torch.randperm(len(images), generator=generator)
            for at in range(0, len(images) - BATCH + 1, BATCH):
                batch = order[at : at + BATCH]
                logits = network(shifted(images[batch], generator))
                loss = nn.functional.cross_entropy(logits, labels[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
                bar.update()
    network.eval()


def main() -> None:
    """Train all of them, write each as safetensors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=CONFIG.parents[1] / "checkpoints")
    folder = writable_folder(parser.parse_args().out / "digits")
    config = load_config(CONFIG)
    data = build_data("digits", split="train")
    labels = torch.from_numpy(data.labels.astype(np.int64))
    for side, (section, _) in zip(("student", "middle", "teacher"), tiers_of(config), strict=True):
        torch.manual_seed(SEED)
        settings: dict[str, Any] = {**section.built(), "checkpoint": None, "random_weights": True}
        model = build_model(data, **settings)
        assert isinstance(model, TorchClassifier)
        assert isinstance(model.network, nn.Module)
        images = torch.stack([model.preprocess(data.load(index)) for index in range(len(data))])
        fit(model.network, images, labels, side)
        path = folder / f"{side}.safetensors"
        with atomic_write(path) as temporary:
            save_file(model.network.state_dict(), temporary)
        print(f"{path.relative_to(folder.parent)}  sha256 {checksum(path)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
