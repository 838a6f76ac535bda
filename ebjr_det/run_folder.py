"""The run folder: opened for a run, taken up again, and trusted as the source of a calibration.

A folder holds one run of one pair. Whatever is in it stays until something whole can take its place; its
summary is there only beside the records that it sums up.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from ebjr_det.config import EvaluateConfig, dump_config, identity, load_config
from ebjr_det.cost import CostModel
from ebjr_det.errors import ConfigError, EbjrError, InvalidInput, first_line
from ebjr_det.files import existing_file, writable_folder, write_text
from ebjr_det.records import PartStore, load_run, save_run
from ebjr_det.reporting.folder import CONFIG, PARTS, RUN, SUMMARY
from ebjr_det.tasks import build_task
from ebjr_det.tradeoff import score_of
from ebjr_det.types import PairedRun


def open_folder(out: Path, config: EvaluateConfig, resume: bool) -> None:
    """A new run folder, or with `resume` one whose records another such run would repeat."""
    writable_folder(out)
    path = out / CONFIG
    if path.is_file():
        if not resume:
            raise ConfigError(
                f"Expected an empty --out, got a run in `{out}`. Add --resume to go on with it."
            )
        before, now = identity(load_config(path)), identity(config)
        if before != now:
            other = next(key for key in now if before[key] != now[key])
            raise ConfigError(
                f"Expected `{other}` as in the run that `{out}` holds, {before[other]}, got {now[other]}. "
                "Choose another --out."
            )
    elif any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise ConfigError(f"Expected an empty --out, got files in `{out}`.")
    else:
        write_text(path, dump_config(config))


def finished_run(out: Path, image_ids: Sequence[str], start: Callable[[PartStore], PairedRun]) -> PairedRun:
    """The folder's run: loaded where it is complete, else gone on with by `start` and saved.

    Raises:
        InvalidInput: the folder holds a run of other images.
    """
    parts = PartStore(out / PARTS)
    if (out / RUN).is_file():
        run = load_run(out / RUN)
        seen, expected = run.image_ids, tuple(image_ids)
    else:
        seen = tuple(image for part in parts.load() for image in part.image_ids)
        expected = tuple(image_ids)[: len(seen)]
    if seen != expected:
        raise InvalidInput(
            f"Expected the images that the run in `{out}` has seen, got others. Choose another --out."
        )
    if not (out / RUN).is_file():
        run = start(parts)
        save_run(run, out / RUN)
    parts.clear()
    return run


def clear_replay_folder(out: Path) -> None:
    """A replay replaces an earlier replay, which its inputs can make again, and nothing else."""
    writable_folder(out)
    if (out / CONFIG).is_file() and (out / CONFIG).read_bytes().startswith(b"replay:"):
        for figure in [*out.glob("*_by_*.png"), *out.glob("*_by_*.svg")]:
            figure.unlink()
        (out / SUMMARY).unlink(missing_ok=True)
    elif any(out.iterdir()):
        raise ConfigError(f"Expected an empty --out or an earlier replay, got other files in `{out}`.")


def load_folder(folder: Path) -> tuple[PairedRun, dict[str, Any], CostModel]:
    """A finished run with its summary and its costs, tried out before anything relies on it."""
    path = existing_file(folder / SUMMARY, "a finished run folder with its summary")
    run = load_run(folder / RUN)
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        score = score_of(run, str(summary["score"]))
        check_same_pair(summary, summary)  # all there
        sides = summary["student"], summary["teacher"]
        cost = CostModel(*(side[key] for key in ("macs", "latency_ms") for side in sides))
        if len(build_task(run.task).mixtures(run.student, run.teacher).reward()) != len(score):
            raise ValueError("records of another number of images")
    except EbjrError:
        raise
    except Exception as error:  # an edited or damaged file can raise anything
        raise InvalidInput(f"Expected a whole run in `{folder}`, got: {first_line(error)}.") from error
    return run, summary, cost


def check_same_pair(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Raises InvalidInput where two runs' summaries are of different models or score options."""
    for key in ("score_options", "student.name", "student.macs", "teacher.name", "teacher.macs"):
        one, two = (reduce(lambda place, part: place[part], key.split("."), s) for s in (first, second))
        if one != two:
            raise InvalidInput(f"Expected two runs of one pair, got {one} and {two} as their `{key}`.")
