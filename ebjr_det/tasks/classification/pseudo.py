"""How likely each class of a picture is that nobody labelled, from what both models say of it.

    q = TEACHER p_teacher + (1 - TEACHER) p_student, p = softmax of the logits

a linear opinion pool (Stone 1961, doi 10.1214/aoms/1177704873). The teacher's answer is then worth more than
the student's by TEACHER (p_t(t) - p_t(s)) - (1 - TEACHER) (p_s(s) - p_s(t)), t and s being their classes:
nothing where they agree, and less where the student is sure. Probabilities say more than one label a picture:
learned routers get better by it, even than from true labels. `eval/routing` has the numbers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ebjr_det.core.types import FloatArray, Output

TEACHER = 2 / 3
"""The teacher's share. On CIFAR-10 and CIFAR-100 (published pairs, 10,000 pictures each) the gap between the
models is .030 and .054; estimated it is .022 and .062 at this share, .056 and .153 by the teacher alone, .006
and .016 at one half. Between .65 and .75 routers are equally good."""


def targets(student: Output, teacher: Output, classes: int, image_ids: Sequence[str]) -> list[FloatArray]:
    """What both models' answers on a batch are judged by where there are no labels; nothing is drawn."""
    answers = (np.asarray(output.predictions, dtype=np.float64) for output in (student, teacher))
    return list(pooled(*answers))


def pooled(student: NDArray[np.floating], teacher: NDArray[np.floating]) -> FloatArray:
    """[images, classes] how likely each class is, from both models' logits.

    A specialised student's logits are longer by "other", and -inf for what it does not tell apart: what it
    gives "other" is spread over these classes as the teacher has them.

    >>> pooled(np.array([[0.0, 0.0]]), np.array([[50.0, 0.0]])).round(3).tolist()
    [[0.833, 0.167]]
    """
    of_teacher, of_student = softmax(teacher, axis=1), softmax(student, axis=1)
    if student.shape[1] > teacher.shape[1]:
        outside = np.where(student[:, :-1] == -np.inf, of_teacher, 0.0)
        outside /= np.maximum(outside.sum(axis=1, keepdims=True), LEAST)
        of_student = of_student[:, :-1] + of_student[:, -1:] * outside
    return np.asarray(TEACHER * of_teacher + (1 - TEACHER) * of_student)


LEAST = 1e-300  # a divisor where the teacher sees nothing outside
