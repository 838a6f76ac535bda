"""A fitted router on disk: one `.safetensors` file, numbers and a JSON header, nothing that could run.

Convention: the file tells what it was fitted on, so that no report can use pictures that the fit has seen,
and no other student is routed by it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebjr_det.core.errors import InvalidInput, first_line, listed
from ebjr_det.core.types import Array, FloatArray
from ebjr_det.io.files import atomic_write, existing_file
from ebjr_det.io.third_party import first_fault

VERSION = 1
HEADER = "ebjr_det_router"
FRONT = "front"
"""The score of a router in front of the student, whose arrays are a network on pictures."""


@dataclass(frozen=True)
class RouterHeader:
    """What a router is, in words and plain numbers.

    Attributes:
        score: the deferral score that decides; `settings`: all that turns logits into it, as a
            `RouterSection` has it.
        rescaling: how the student's scores come on the teacher's scale.
        classes: how many the data have, 0 where that is unknown; `class_names` where they have any;
            `popular`: those that a specialised student tells apart.
        student, teacher: names of the models; `student_weights`, `teacher_weights`: a digest of each one's,
            see `student.weights_of`, empty where the fit did not know them (result files, an earlier
            version) or nothing hangs on them: the teacher's of a router behind the student.
        image_ids: of the pictures that were fitted on; `fingerprints`: of each, see
            `drift.shared_images`.
        evidence: out-of-fold quality of every score and rescaling that was tried, and how it was measured.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    task: str
    score: str
    rescaling: str
    classes: int
    class_names: tuple[str, ...]
    student: str
    teacher: str
    image_ids: tuple[str, ...]
    fingerprints: tuple[float, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    popular: tuple[str, ...] = ()
    student_weights: str = ""
    teacher_weights: str = ""
    version: int = VERSION

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the fit found to speak against the score."""
        return tuple(map(str, self.evidence.get("warnings") or ()))


_ADAPTER = TypeAdapter(RouterHeader)


@dataclass(frozen=True)
class RouterFile:
    """A router as its file holds it.

    Attributes:
        reference: [N] the deciding score on the pictures of the fit, each by a router that had not seen it.
        student_scores: a sample of the student's own numbers there, by which another student is told.
        arrays: the task's own.
    """

    header: RouterHeader
    reference: FloatArray
    student_scores: FloatArray
    arrays: Mapping[str, Array]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        from safetensors.numpy import save

        arrays = {f"router/{name}": np.asarray(value, order="C") for name, value in self.arrays.items()}
        arrays |= {"reference": self.reference, "student_scores": self.student_scores}
        content = save(dict(sorted(arrays.items())), {HEADER: _ADAPTER.dump_json(self.header).decode()})
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> "RouterFile":
        """Read a router.

        Raises:
            InvalidInput: no such file, a damaged one, one of another version, or numbers that are not finite.
        """
        arrays, header = _read(existing_file(path, "a fitted router"))
        for name, values in arrays.items():
            if not np.isfinite(values).all():
                raise InvalidInput(f"Expected finite numbers in router `{path}`, got others in `{name}`.")
        try:
            reference, student_scores = arrays.pop("reference"), arrays.pop("student_scores")
        except KeyError as error:
            raise InvalidInput(
                f"Expected a fitted router in `{path}`, got a file without {error}."
            ) from error
        if any(sample.ndim != 1 or not len(sample) for sample in (reference, student_scores)):
            raise InvalidInput(f"Expected samples of scores in router `{path}`, got none or a table.")
        if len(header.fingerprints) != len(header.image_ids):
            raise InvalidInput(
                f"Expected a fingerprint of each picture in router `{path}`, got {len(header.fingerprints)} "
                f"of {len(header.image_ids)}. Fit it again."
            )
        of_task = {name.removeprefix("router/"): values for name, values in arrays.items()}
        return cls(header, reference, student_scores, of_task)


def _read(path: Path) -> tuple[dict[str, Array], RouterHeader]:
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as opened:
            text = (opened.metadata() or {}).get(HEADER)
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file can raise anything
        raise InvalidInput(f"Expected a fitted router in `{path}`, got: {first_line(error)}.") from error
    if text is None:
        raise InvalidInput(f"Expected a fitted router in `{path}`, got other tensors. Make one: fit-router.")
    try:
        version = json.loads(text).get("version")
        if version != VERSION:
            raise InvalidInput(
                f"Expected a router of version {VERSION} in `{path}`, got {version}. Fit it again."
            )
        return arrays, _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise InvalidInput(
            f"Expected a router's header in `{path}`, got {first_fault(error)}. Fit it again."
        ) from error
    except (ValueError, AttributeError) as error:
        raise InvalidInput(f"Expected a router's header in `{path}`, got: {first_line(error)}.") from error


def check_classes(
    header: RouterHeader, class_names: Sequence[str], router: str, popular: Sequence[str] = ()
) -> None:
    """Raises InvalidInput where a router was fitted on other classes, or popular classes, than these."""
    names = tuple(class_names)
    indices = [tuple(map(str, range(len(classes)))) for classes in (names, header.class_names)]
    if names not in (header.class_names, indices[0]) and header.class_names != indices[1]:
        different = sorted(set(names) ^ set(header.class_names))
        fault = f"`{different[0]}` in one of them only" if different else "another order"
        raise InvalidInput(
            f"Expected a router made for the {len(names)} classes of the data, got `{router}` for "
            f"{len(header.class_names)}, {fault}. Fit a router on these classes."
        )
    if names and header.classes not in (0, len(names)):
        raise InvalidInput(
            f"Expected a router made for the {len(names)} classes of the data, got `{router}` for "
            f"{header.classes}. Fit a router on these classes."
        )
    if [*map(names.index, popular)] != [*map(header.class_names.index, header.popular)]:
        raise InvalidInput(
            f"Expected a router made for a student of {_listed(popular)}, got `{router}` for one of "
            f"{_listed(header.popular)}. Fit a router for this student."
        )


def _listed(popular: Sequence[str]) -> str:
    return f"{len(popular)} popular classes ({listed(popular, 4)})" if popular else "all classes"


def check_model_of(header: RouterHeader, name: str, weights: str, router: str, side: str = "student") -> None:
    """Raises InvalidInput where a router was fitted for a model of another name or of other weights.

    Args:
        weights: a digest as `RouterHeader.student_weights`; nothing is compared where either is empty.
        side: `student` or `teacher`.
    """
    fitted_for, fitted_weights = getattr(header, side), getattr(header, f"{side}_weights")
    if fitted_for and fitted_for != name:
        raise InvalidInput(
            f"Expected a router made for {side} `{name}`, got `{router}` for `{fitted_for}`. "
            "Fit a router for this one."
        )
    if fitted_weights and weights and fitted_weights != weights:
        raise InvalidInput(
            f"Expected a router made for this {side}, got `{router}` for one of the same name with other "
            f"weights (sha256 {fitted_weights[:12]}..., here {weights[:12]}...). "
            "Fit a router for this one."
        )
