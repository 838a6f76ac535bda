"""`export`: the pair as a folder that is served without torch."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np

from ebjr_det.api.export_front import with_front
from ebjr_det.api.export_int8 import in_eight_bits, say_in_float
from ebjr_det.api.space import bytes_of_graphs
from ebjr_det.config import EvaluateConfig, ModelSection, parse_section
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.joint import JointModel
from ebjr_det.core.scores import rows_counted
from ebjr_det.core.tiers import MOST_TIERS, Topology
from ebjr_det.core.types import FloatArray, Model, Opaque
from ebjr_det.inference.export_file import (
    FRONT,
    NESTED_VERSION,
    PAIR,
    ROUTER,
    VERSION,
    WITHIN,
    ExportedInner,
    ExportedModel,
    ExportedPair,
    tells_pair,
    thinned,
    write_pair,
)
from ebjr_det.inference.live import choose_threshold, front_of
from ebjr_det.inference.nested import nested_pair
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import answers_to_data, check_answers, weights_of
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import check_replaceable, check_space, checksum, coming, replaced_folder
from ebjr_det.io.third_party import check_packages
from ebjr_det.io.threads import on_threads
from ebjr_det.runtimes.graph_file import RunsFile
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import plain
from ebjr_det.tasks.contract import Classes, Picture

SAMPLES = 4
NAMES = (ROUTER, "student.onnx", "teacher.onnx")
FILES = (
    PAIR,
    FRONT,
    "student-int8.onnx",
    "teacher-int8.onnx",
    *(depth * WITHIN + name for depth in range(MOST_TIERS - 1) for name in NAMES),
)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SAVED = ("batch_size", "teacher_batch", "patience_ms", "overlap", "workers")
"""Settings of `run` that an exported pair keeps."""


@dataclass(frozen=True)
class ExportResult:
    """What was written; its fields are the keys of the JSON. `files`: bytes by name."""

    out: str
    score: str
    threshold: float
    files: dict[str, int]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


@on_threads("run")
def export(
    config: EvaluateConfig,
    out: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    reference: FloatArray | None = None,
    int8: bool = False,
) -> ExportResult:
    """Write a pair as ONNX graphs, one a model, and one JSON with all the rest; see `exported`.

    The graphs take any number of images a batch. Each is run once and compared with eager torch.

    Args:
        out: a folder, empty or with an earlier export, which is replaced when all else is done.
        threshold, rate: as in `predict`.
        reference: [images] deciding scores of pictures like those to come, as a run has them. Whoever serves
            the folder can then be asked for a share of pictures. A fitted router has its own.
        int8: also write the models in eight bits, as far as they keep their quality; see `export_int8`.

    Raises:
        ConfigError: no threshold, a network that ONNX cannot hold, a preprocessing that is code, or a graph
            that does not answer as torch does.

    Example:
        >>> from ebjr_det import export, load, load_config
        >>> result = export(load_config("digits"), "exported", threshold=-0.9)
        >>> len(load("exported")(["pictures/0.png"]).predictions)  # without torch from here on
        1
    """
    check_packages(PACKAGES, "onnx", "to export a pair")
    out = Path(out)
    scoring, threshold = choose_threshold(config, threshold, rate, fronted=True)
    if not np.isfinite(threshold):
        raise ConfigError(f"Expected a finite threshold to export, got {threshold}. Give --threshold.")
    check_replaceable(out, FILES, "export", _is_earlier)
    named = load_task(config.task).data.build_named(**dict(config.data))
    scoring, models = _bound(config, scoring, named)
    front = front_of(config, named, models)
    levels = list(_levels(config, JointModel(*models, scoring, threshold), _pictures(named)))
    check_space(out, bytes_of_graphs([side.model for level in levels for side in level.sides]))
    with replaced_folder(out, FILES, "export", _is_earlier) as folder:
        pair = _pair(config, named, _written(levels, folder, config.run.tolerance))
        if reference is not None and scoring.reference is None:  # a fitted router has its own
            pair = pair.model_copy(update={"reference": thinned(reference)})
        if front is not None:
            pair = with_front(pair, front, folder, config.run.tolerance)
        if int8:
            sides = {side.name: side.model for level in levels for side in level.sides}
            pair = in_eight_bits(config, sides, pair, scoring, folder)
        else:
            say_in_float(config)
        write_pair(pair, folder)
    files = {name: (out / name).stat().st_size for name in FILES if (out / name).is_file()}
    return ExportResult(str(out), scoring.name, threshold, files)


def _bound(config: EvaluateConfig, scoring: Scoring, named: Classes) -> tuple[Scoring, tuple[Model, Model]]:
    """The score, bound to what the student answers, and the pair's models."""
    from ebjr_det.inference.pair import build_models, popular_of

    popular = popular_of(config.student, named)
    names = () if popular is None else popular.names
    scoring = scoring.bind(named.class_names, names)
    student, teacher = build_models(config, named, "cpu")
    weights = weights_of(student)
    scoring = scoring.bind(named.class_names, names, student.name, weights)
    check_answers(scoring, partial(answers_to_data, config, student), weights)
    return scoring, (student, teacher)


def _is_earlier(entry: Path) -> bool:
    """Whether an entry of a folder is of an earlier export, and no user's own: a `pair.json` tells of it."""
    pairs = [entry.parent / PAIR, *([] if entry.name == PAIR else [coming(entry.parent, "export", PAIR)])]
    return entry.is_file() and any(map(tells_pair, pairs))


def _pair(config: EvaluateConfig, named: Classes, pair: dict[str, object]) -> ExportedPair:
    """The content of `pair.json`: all that is not in the graphs, without the paths of this machine."""
    ids = getattr(named, "categories", None) or dict(enumerate(named.class_names))
    environment = describe_environment("cpu", config.run.seed)
    content = {
        "version": NESTED_VERSION if isinstance(pair["teacher"], ExportedInner) else VERSION,
        "task": config.task,
        "classes": {str(key): name for key, name in ids.items()},
        "run": config.run.model_dump(include=set(SAVED)),
        "made_with": {key: value for key, value in environment.items() if key != "command"},
        **pair,
        "title": config.title or pair.pop("name"),
    }
    content.pop("name", None)
    return parse_section(ExportedPair, content)


@dataclass(frozen=True)
class _Side:
    """A model on its way into the folder: its settings, a batch that its graph takes, its multiply-adds."""

    name: str
    model: Model
    section: ModelSection
    batch: Opaque
    macs: float


@dataclass(frozen=True)
class _Level:
    """A pair on its way into the folder: its router and its models, without one that is a pair itself."""

    within: str
    topology: Topology
    scoring: Scoring
    threshold: float
    sides: list[_Side]


def _levels(
    config: EvaluateConfig,
    joint: JointModel,
    pictures: list[Picture],
    within: str = "",
    topology: Topology = "cascade",
) -> Iterator[_Level]:
    """The pair, and those in the place of its teacher, from the outermost on."""
    assert isinstance(joint.router, Scoring)
    inner, teacher = nested_pair(config), plain(joint.teacher)
    sides = [_side(f"{within}student", joint.student, config.student, pictures)]
    if inner is None:
        sides.append(_side(f"{within}teacher", joint.teacher, config.teacher, pictures))
    yield _Level(within, topology, joint.router, joint.threshold, sides)
    if inner is not None:
        yield from _levels(inner, teacher.joint, pictures, within + WITHIN, config.topology or "cascade")


def _written(levels: list[_Level], folder: Path, tolerance: float) -> dict[str, object]:
    """The settings of the outermost of the pairs, when all their files are in the folder."""
    level, *inner = levels
    section = level.scoring.section
    models: list[ExportedModel | ExportedInner] = [_write_model(s, folder, tolerance) for s in level.sides]
    if inner:
        settings = _written(inner, folder, tolerance) | {"topology": inner[0].topology}
        models.append(parse_section(ExportedInner, settings))
    if section.file is not None:
        copyfile(section.file, folder / f"{level.within}{ROUTER}")
    top_k, aggregate = rows_counted(level.scoring.name, section.top_k, section.aggregate)
    router: dict[str, object] = {"threshold": None, "target": None, "top_k": top_k, "aggregate": aggregate}
    router |= {"file": None if section.file is None else f"{level.within}{ROUTER}"}
    router |= {"front": None, "front_threshold": None}  # which is a graph beside it
    student, teacher = models
    return {
        "name": f"{student.name} + {teacher.name}",
        "router": section.model_copy(update=router),
        "threshold": level.threshold,
        "student": student,
        "teacher": teacher,
    }


def _side(name: str, model: Model, section: ModelSection, pictures: list[Picture]) -> _Side:
    """Raises ConfigError for a model with code of its own around its network."""
    inner = plain(model)
    graph = isinstance(inner, RunsFile) or getattr(getattr(inner, "graph", None), "state_dict", None)
    if getattr(inner, "around", None) is None or not graph:
        raise ConfigError(
            f"Expected `{model.name}` to be a detector or classifier whose preprocessing is numbers, got a "
            f"model with code of its own around its network. Set `{name}.preprocessing`."
        )
    macs = macs_of(inner, pictures[0], section.macs, f"{name}.macs")
    batch = inner.batch([inner.preprocess(picture) for picture in pictures])
    return _Side(name, model, section, batch, macs)


def _write_model(side: _Side, folder: Path, tolerance: float) -> ExportedModel:
    """A model's graph in the folder, somebody else's unchanged. Raises ConfigError for other answers."""
    from ebjr_det.runtimes.onnx import INPUT, Session, write_alike

    inner, path = plain(side.model), folder / f"{side.name}.onnx"
    if isinstance(inner, RunsFile):
        copyfile(inner.file.path, path)
        name, dtype, outputs = Session(path).input, inner.file.dtype, inner.file.outputs
    else:
        write_alike(inner.graph, side.batch, inner.eager, path, tolerance, side.model.name)
        name, dtype, outputs = INPUT, str(np.asarray(side.batch).dtype), inner.graph.outputs
    popular = side.section.popular
    return ExportedModel(
        name=side.model.name,
        file=path.name,
        sha256=checksum(path),
        inputs={"name": name, "type": dtype, "shape": ["batch", *side.batch.shape[1:]]},
        outputs=list(outputs),
        around=inner.around.to_dict(),
        macs=side.macs,
        popular=popular or None,
        other_at=getattr(side.section, "other_at", None) if popular else None,
    )


def _pictures(named: Any) -> list[Picture]:
    """Pictures of the data where it has some, else seeded blocks of colour."""
    from PIL import Image

    if len(getattr(named, "image_ids", ())):
        return [named.load(index) for index in range(min(SAMPLES, len(named.image_ids)))]
    generator = np.random.default_rng(0)
    blocks = generator.integers(256, size=(SAMPLES, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(block).resize((640, 480), Image.Resampling.BICUBIC) for block in blocks]
