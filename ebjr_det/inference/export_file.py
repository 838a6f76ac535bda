"""The `pair.json` of an exported folder: what is in it, read with care and written with its own checksum."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from ebjr_det.config import BaseSection, RouterSection
from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.router import check_scores
from ebjr_det.core.tiers import Topology
from ebjr_det.core.types import FloatArray
from ebjr_det.io.files import existing_file, write_text
from ebjr_det.io.third_party import first_fault

PAIR, ROUTER, FRONT = "pair.json", "router.safetensors", "front.onnx"
VERSION: Literal[2] = 2
"""Of the format that is written; version 1 had no reference scores."""
NESTED_VERSION: Literal[3] = 3
"""Of the format of more than two models, which an earlier version of this package refuses."""
INT8_VERSION: Literal[4] = 4
"""Of the format with graphs in eight bits, likewise."""
FRONT_VERSION: Literal[5] = 5
"""Of the format with a router in front of the student, likewise."""
WITHIN = "teacher-"
"""What the names of an inner pair's files begin with, once a level."""
Side = Literal["student", "teacher"]
SHA256 = r"^[0-9a-f]{64}$"
SIGNATURE = {"version", "task", "router", "threshold", "student", "teacher", "sha256"}
"""What every `pair.json` has, by which one is known."""
LARGEST = 2**24
"""Bytes of a `pair.json` at most; one of ten thousand classes has less than one million."""
LARGEST_REFERENCE = 10_000
"""Reference scores at most."""


class ExportedModel(BaseSection):
    """One network and what surrounds it.

    Attributes:
        file: the ONNX graph, in the same folder; `sha256`: of it.
        inputs: name, type and shape of its input; the first number is the batch, of any size.
        outputs: names of its outputs, in order; see the task's `around` for their shapes.
        around: what is done before and after it, as plain numbers; see `around.Surroundings`.
        macs: multiply-adds an image.
        popular: the classes that a specialised student tells apart, and `other_at` of a detector.
    """

    name: str
    file: str = Field(pattern=r"^[\w-]+\.onnx$")
    sha256: str = Field(pattern=SHA256)
    inputs: dict[str, Any]
    outputs: list[str]
    around: dict[str, object]
    macs: float
    popular: list[int | str] | None = None
    other_at: float | None = None


class ExportedInner(BaseSection):
    """A pair in the place of a teacher; its settings are those of an `ExportedPair`.

    Attributes:
        topology: whether its own score decides or, of a `leap`, that with which a picture reached it.
    """

    name: str
    macs: float | None = None
    topology: Topology = Field("cascade", exclude_if="cascade".__eq__)
    router: RouterSection
    threshold: float
    student: ExportedModel
    teacher: "ExportedModel | ExportedInner"

    @property
    def popular(self) -> None:
        """No classes: the models of an inner pair tell all of them apart."""
        return

    @property
    def sha256(self) -> str:
        """A digest of its settings and of all its files."""
        return digest_of(self.model_dump())


class GraphInEightBits(BaseSection):
    """A model's graph in eight bits; `by`: the library that runs it; quality: what it has lost, in words."""

    file: str = Field(pattern=r"^[\w-]+\.onnx$")
    sha256: str = Field(pattern=SHA256)
    by: str = Field(pattern="^(onnxruntime|openvino)$")
    quality: str


class ExportedEightBits(BaseSection):
    """What holds in place of the pair's own where a processor has eight bits.

    Attributes:
        graphs: by side, of the models that kept their quality.
        threshold, reference: of the student's graph in eight bits, where there is one.
    """

    threshold: float
    reference: list[float] | None = Field(None, min_length=1, max_length=LARGEST_REFERENCE)
    graphs: dict[Side, GraphInEightBits] = Field(min_length=1)


class ExportedFront(BaseSection):
    """A router in front of the student.

    Attributes:
        file: its graph: levels uint8 [n, 3, size, size] of the picture, resized to a square -> [n, 1] its
            score.
        threshold: a picture whose score is above it goes to the teacher, and the student does not see it.
        macs: multiply-adds an image.
    """

    file: str = Field(pattern=r"^[\w-]+\.onnx$")
    sha256: str = Field(pattern=SHA256)
    size: int = Field(ge=8, le=1024)
    threshold: float
    macs: float


class ExportedPair(BaseSection):
    """The content of `pair.json`, but for its own checksum.

    Attributes:
        classes: category id (detection) or class index -> name, in the order of class indices.
        threshold: defer where score > threshold.
        reference: scores of a run's pictures, rising, where no router has those of its fit; so that a share
            of pictures can be asked for.
        int8: the same in eight bits, where it was exported so; front: a router in front of the student.
    """

    version: Literal[1, 2, 3, 4, 5]
    title: str
    task: Literal["classification", "detection"]
    classes: dict[Annotated[str, Field(pattern=r"^-?[0-9]{1,4000}$")], str] = Field(min_length=1)
    router: RouterSection
    threshold: float
    reference: list[float] | None = Field(None, min_length=1, max_length=LARGEST_REFERENCE)
    student: ExportedModel
    teacher: ExportedModel | ExportedInner
    int8: ExportedEightBits | None = None
    front: ExportedFront | None = None
    run: dict[str, object]
    made_with: dict[str, object]

    @model_validator(mode="after")
    def _teacher_knows_all(self) -> "ExportedPair":
        if self.teacher.popular is not None:
            raise ValueError("a teacher of all classes, got one with `popular` classes")
        return self


def thinned(reference: FloatArray) -> list[float]:
    """Reference scores as a folder keeps them, rising; of more than it may hold, so many quantiles.

    Raises InvalidInput for scores that are not finite.
    """
    scores = np.sort(check_scores(reference))
    if len(scores) > LARGEST_REFERENCE:
        scores = scores[np.linspace(0, len(scores) - 1, LARGEST_REFERENCE).round().astype(int)]
    return [float(score) for score in scores]


def is_exported(path: Path) -> bool:
    """Whether a folder holds an exported pair."""
    return (path / PAIR).is_file()


def tells_pair(path: Path) -> bool:
    """Whether a file is the `pair.json` of an export, of whatever version and with whatever changes."""
    try:
        if path.stat().st_size > LARGEST:
            return False
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= SIGNATURE


def write_pair(pair: ExportedPair, folder: Path) -> None:
    """Write `pair.json`, its own checksum last; the other files are there already."""
    content = pair.model_dump(exclude={name for name in ("int8", "front") if getattr(pair, name) is None})
    content["sha256"] = digest_of(content)
    write_text(folder / PAIR, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_pair(path: Path) -> ExportedPair:
    """The content of a `pair.json`. Raises InvalidInput for another file, or one that was changed."""
    if existing_file(path, "an exported pair").stat().st_size > LARGEST:
        raise InvalidInput(f"Expected an exported pair in `{path}`, got more than {LARGEST} bytes.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("version") not in range(1, FRONT_VERSION + 1):
            raise ValueError(f"no JSON object of version 1 to {FRONT_VERSION}")
        sha256 = content.pop("sha256", None)
        pair, unchanged = ExportedPair.model_validate(content), digest_of(content) == sha256
    except ValidationError as error:
        raise InvalidInput(f"Expected an exported pair in `{path}`, got {first_fault(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"Expected an exported pair in `{path}`, got: {first_line(error)}. Export again."
        ) from error
    if not unchanged:
        raise InvalidInput(
            f"Expected `{path}` as it was exported, got a changed file. Export again; a threshold can be "
            "given as --threshold."
        )
    return pair


def digest_of(content: Mapping[str, object]) -> str:
    """The sha256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
