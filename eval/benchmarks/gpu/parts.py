"""What the sections share: pictures, networks, rows and what becomes of a fault."""

import subprocess
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import torch
from detectors import spread
from PIL import Image

from ebjr_det.tasks.detection.data import build_data, build_named
from ebjr_det.tasks.detection.model import build_model

ROOT = Path(__file__).resolve().parents[3]
Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterator[tuple[str, Row]]
SIDE, SMALL_SIDE = 640, 256
MODELS = ("d0", "d4")


def attempt(call: Callable[[], Row]) -> Row:
    """The row, or what went wrong as one, with the traceback on stderr."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split())
        return {"failed": f"{type(error).__name__}: {text[:600]}"}


@cache
def pictures(count: int, small: bool) -> list[Image.Image]:
    """Scenes of digits, enlarged."""
    scenes, side = build_data("digit_scenes", split="test", limit=count), SMALL_SIDE if small else SIDE
    return [scenes.load(index).resize((side, side), Image.Resampling.BICUBIC) for index in range(count)]


def effdet(size: str, args: Namespace) -> Any:
    """EfficientDet of a size, `d0` or `d4`, fresh, with outputs that spread; smaller in a rehearsal."""
    torch.manual_seed(0)
    sides = {"image_size": 256} if args.small else {}
    model = build_model(
        build_named("coco", split="val2017"), f"effdet/tf_efficientdet_{size}", device=args.device,
        random_weights=True, **sides,
    )  # fmt: skip
    spread(model, pictures(32, args.small)[:8])
    return model


def inputs_of(model: Any, count: int, args: Namespace) -> list[Any]:
    """So many preprocessed pictures, 32 of them over and over."""
    made = [model.preprocess(picture) for picture in pictures(32, args.small)[:count]]
    return [made[index % len(made)] for index in range(count)]


def wait_for_go(args: Namespace) -> None:
    """Tell that all is built, and go on when the check says so; at once where nobody waits."""
    clear()
    if args.ready is not None:
        Path(args.ready).touch()
        if not sys.stdin.readline():
            sys.exit("the check has ended")


def on_gpu(args: Namespace) -> bool:
    """Whether this is no rehearsal on the CPU."""
    return bool(args.device.startswith("cuda"))


def clear() -> None:
    """Give back what no tensor holds."""
    import gc

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def ran(command: Sequence[str | Path], seconds: float, **settings: Any) -> tuple[Row, str]:
    """A command's exit code and time, the end of its stderr where it failed, and its stdout."""
    begun = perf_counter()
    try:
        done = subprocess.run(
            [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=seconds, **settings
        )
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"").decode(errors="replace")
        return {"failed": f"its {seconds:.0f} s were over: {' '.join(text[-600:].split())}"}, text
    row: Row = {"seconds": round(perf_counter() - begun, 1), "exit_code": done.returncode}
    if done.returncode:
        row["failed"] = " ".join((done.stdout[-300:] + done.stderr[-900:]).split())
    return row, done.stdout


def verb(*options: str | Path) -> list[str | Path]:
    """A command of this package."""
    return [sys.executable, "-m", "ebjr_det", *options]
