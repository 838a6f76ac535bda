"""Which pictures and which student is a run about? Numbers by which a fitted router tells."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray, Output, PairedRun
from ebjr_det.routing.drift import UNKNOWN
from ebjr_det.tasks.detection.coco.annotations import Results
from ebjr_det.tasks.detection.coco.matching import match_images

if TYPE_CHECKING:
    from ebjr_det.tasks.detection.data import DetectionSet


def fingerprints(run: PairedRun) -> FloatArray:
    """[N] of each picture, whatever the student and its settings: a hash of how many objects of which class
    are annotated, which other files of the same annotations tell alike. Without annotations they are unknown.
    """
    return np.full(len(run), UNKNOWN) if run.estimated else _prints(run.student["truths"])


def prints_ahead(data: "DetectionSet") -> FloatArray:
    """[N] the `fingerprints` of a run on these images, which annotations alone tell."""
    empty = Results(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.intp))
    truths = data.annotations.truths
    if not data.labelled:
        return np.full(len(truths), UNKNOWN)
    return _prints(match_images([empty] * len(truths), truths, len(data.class_names))["truths"])


def _prints(truths: NDArray[np.uint16]) -> FloatArray:
    rows = np.ascontiguousarray(truths[:, :, 0])
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=4).digest() for row in rows)
    return np.frombuffer(digests, dtype=np.uint32).astype(np.float64)


def student_numbers(run: PairedRun) -> FloatArray:
    """A sample of the student's box scores, by which another student is told: 1,001 quantiles."""
    scores = run.student["score"]
    return np.quantile(scores, np.linspace(0, 1, 1001)) if len(scores) else np.zeros(1)


def answer_numbers(output: Output) -> FloatArray:
    """The box scores of a batch of the student's answers, of which `student_numbers` is a sample."""
    return np.concatenate([np.zeros(0), *(answer.scores for answer in output.predictions)])
