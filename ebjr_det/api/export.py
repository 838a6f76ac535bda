"""`export`: the pair as a folder that is served without torch."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np

from ebjr_det.api.space import bytes_of_graphs
from ebjr_det.config import EvaluateConfig, parse_section
from ebjr_det.core.errors import ConfigError
from ebjr_det.inference.exported import (
    PAIR,
    ROUTER,
    VERSION,
    ExportedModel,
    ExportedPair,
    tells_pair,
    write_pair,
)
from ebjr_det.inference.live import choose_threshold
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import answers_to_data, check_answers, weights_of
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import check_replaceable, check_space, checksum, coming, replaced_folder
from ebjr_det.io.third_party import install_hint
from ebjr_det.io.threads import on_threads
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import plain

SAMPLES = 4
FILES = (PAIR, ROUTER, "student.onnx", "teacher.onnx")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
KEPT = ("batch_size", "teacher_batch", "patience_ms", "overlap", "workers")
"""Settings of `run` that an exported pair keeps."""


@on_threads("run")
def export(
    config: EvaluateConfig,
    out: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """Write a pair as two ONNX graphs and one JSON with all the rest; see `exported`.

    The graphs take any number of images a batch. Each is run once and compared with eager torch.

    Args:
        out: a folder, empty or with an earlier export, which is replaced when all else is done.
        threshold, rate: as in `predict`.

    Raises:
        ConfigError: no threshold, a network that ONNX cannot hold, a preprocessing that is code, or a graph
            that does not answer as torch does.
    """
    from ebjr_det.inference.pair import build_models, popular_of

    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise ConfigError(
            f"Expected {', '.join(PACKAGES)} to export a pair, got no {' and '.join(missing)}. Install them: "
            f"{install_hint('onnx')}."
        )
    scoring, chosen = choose_threshold(config, threshold, rate)
    if not np.isfinite(chosen):
        raise ConfigError(f"Expected a finite threshold to export, got {chosen}. Give --threshold.")
    check_replaceable(Path(out), FILES, "export", _is_earlier)
    named = load_task(config.task).data.build_named(**dict(config.data))
    popular = popular_of(config.student, named)
    names = () if popular is None else popular.names
    scoring = scoring.bind(named.class_names, names)
    models = build_models(config, named, "cpu")
    weights = weights_of(models[0])
    scoring = scoring.bind(named.class_names, names, models[0].name, weights)
    check_answers(scoring, partial(answers_to_data, config, models[0]), weights)
    pictures = _pictures(named)
    sides = tuple(zip(("student", "teacher"), models, strict=True))
    for side, model in sides:
        _check_plain(side, model)
    macs = {
        side: macs_of(plain(model), pictures[0], getattr(config, side).macs, f"{side}.macs")
        for side, model in sides
    }
    batches = {side: _batch(model, pictures) for side, model in sides}
    check_space(Path(out), bytes_of_graphs(models))
    tolerance = config.run.tolerance
    with replaced_folder(Path(out), FILES, "export", _is_earlier) as folder:
        told = {
            side: _write_model(
                model, getattr(config, side), batches[side], macs[side], folder / f"{side}.onnx", tolerance
            )
            for side, model in sides
        }
        if scoring.section.file is not None:
            copyfile(scoring.section.file, folder / ROUTER)
        _write_json(config, scoring, chosen, named, told, folder)
    written = [name for name in FILES if (Path(out) / name).is_file()]
    return {
        "out": str(out),
        "score": scoring.name,
        "threshold": chosen,
        "files": {name: (Path(out) / name).stat().st_size for name in written},
    }


def _is_earlier(entry: Path) -> bool:
    """Whether an entry of a folder is of an earlier export, and no user's own: a `pair.json` tells of it."""
    places = [entry.parent / PAIR, *([] if entry.name == PAIR else [coming(entry.parent, "export", PAIR)])]
    return entry.is_file() and any(map(tells_pair, places))


def _write_json(
    config: EvaluateConfig, scoring: Scoring, threshold: float, named: Any, told: dict[str, Any], folder: Path
) -> None:
    ids = getattr(named, "categories", None) or dict(enumerate(named.class_names))
    file = None if scoring.file is None else ROUTER
    content = {
        "version": VERSION,
        "title": config.title or f"{told['student'].name} + {told['teacher'].name}",
        "task": config.task,
        "classes": {str(key): name for key, name in ids.items()},
        "router": scoring.section.model_copy(update={"threshold": None, "target": None, "file": file}),
        "threshold": threshold,
        "run": config.run.model_dump(include=set(KEPT)),
        "made_with": _made_with(config.run.seed),
        **told,
    }
    write_pair(parse_section(ExportedPair, content), folder)


def _check_plain(side: str, model: Any) -> None:
    """Raises ConfigError for a model with code of its own around its network."""
    inner = plain(model)
    if getattr(inner, "around", None) is None or not hasattr(inner.graph, "state_dict"):
        raise ConfigError(
            f"Expected `{model.name}` to be an EfficientDet, or a classifier whose preprocessing is numbers, "
            f"got a model with code of its own around its network. Set `{side}.preprocessing`."
        )


def _made_with(seed: int) -> dict[str, Any]:
    """The environment without the command line, whose paths are nobody else's business."""
    return {key: value for key, value in describe_environment("cpu", seed).items() if key != "command"}


def _batch(model: Any, pictures: list[Any]) -> Any:
    """The pictures as the graph takes them."""
    inner = plain(model)
    return inner.batch([inner.preprocess(picture) for picture in pictures])


def _write_model(
    model: Any, section: Any, batch: Any, macs: float, path: Path, tolerance: float
) -> ExportedModel:
    from ebjr_det.runtimes import drift
    from ebjr_det.runtimes.onnx import INPUT, Session, write_onnx

    inner = plain(model)
    write_onnx(inner.graph, batch, path)
    moved = drift(Session(path)(batch), inner.eager(batch))
    if not moved <= tolerance:
        raise ConfigError(
            f"Expected the graph of `{model.name}` to answer as torch does, got outputs that move by "
            f"{moved:.2g} of their spread, more than {tolerance:g}. Set run.tolerance."
        )
    own = (
        {"popular": section.popular, "other_at": getattr(section, "other_at", None)}
        if section.popular
        else {}
    )
    return ExportedModel(
        name=model.name,
        file=path.name,
        sha256=checksum(path),
        inputs={"name": INPUT, "type": str(np.asarray(batch).dtype), "shape": ["batch", *batch.shape[1:]]},
        outputs=list(inner.graph.outputs),
        around=inner.around.to_dict(),
        macs=macs,
        **own,
    )


def _pictures(named: Any) -> list[Any]:
    """Pictures of the data where it has some, else seeded blocks of colour."""
    from PIL import Image

    if len(getattr(named, "image_ids", ())):
        return [named.load(index) for index in range(min(SAMPLES, len(named.image_ids)))]
    generator = np.random.default_rng(0)
    blocks = generator.integers(256, size=(SAMPLES, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((640, 480), Image.Resampling.BICUBIC) for one in blocks]
