"""`build_router`: any deferral score by its name, or a fitted router by its file, for models in memory."""

from collections.abc import Sequence
from pathlib import Path

from ebjr_det.config import RouterSection, parse_section
from ebjr_det.config.sections import AUTO, PUBLISHED
from ebjr_det.core.errors import check_known
from ebjr_det.core.scores import SCORES
from ebjr_det.inference.scoring import Scoring
from ebjr_det.routing.file import RouterFile
from ebjr_det.tasks import TASKS, load_task


def build_router(
    score: str | None = None,
    *,
    file: str | Path | None = None,
    task: str | None = None,
    class_names: Sequence[str] = (),
    popular: Sequence[str] = (),
    **settings: object,
) -> Scoring:
    """A router for `JointModel`, and every deferral score of a student's answers by its name.

    Args:
        score: any of `ebjr-det scores`; by default that of the file, else `energy_curvature`.
        file: of `fit-router`, whose rescaling the pair's student then goes through.
        task: by default that of the file or of the score.
        class_names: of the models' classes, by index; scores with class counts need them.
        popular: those that a specialised student tells apart.
        settings: further ones of `router` in a configuration: `top_k`, `aggregate`, `options`, `other_logit`.

    Returns:
        what `JointModel` takes as its score. `deferral_scores(output, name)` gives each score [images] of an
        `Output`, the same as `evaluate` and `replay` record.

    Raises:
        ConfigError: an unknown score or setting, or a score that needs what is not here.
        InvalidInput: no router there, or one that was made for other classes.

    Example:
        >>> import numpy as np
        >>> from ebjr_det import Detections, build_output, build_router
        >>> box, label = np.array([[0.0, 0, 9, 9]]), np.array([0])
        >>> sure, unsure = (Detections(box, np.array([score]), label) for score in (0.99, 0.5))
        >>> output = build_output([sure, unsure], [np.array([[4.6, -9.0]]), np.array([[0.0, -9.0]])])
        >>> router = build_router("class_curvature", class_names=("person", "bicycle"))
        >>> bool(np.diff(router.deferral_scores(output)) > 0)
        True
        >>> router.deferral_scores(output, "energy_curvature").round(3).tolist()
        [0.01, 0.25]
    """
    path = None if file is None else str(file)
    if path is not None:
        task = task or RouterFile.load(Path(path)).header.task
    section = parse_section(RouterSection, {"score": score, "file": path, **settings})
    scoring = Scoring.load(task or _task_of(score), section).bind(class_names, popular)
    scoring.check_counts(class_names)
    return scoring


def _task_of(score: str | None) -> str:
    """The task that has a score of this name; the first where every task has it."""
    owners = {name: task for task in TASKS for name in _own_names(task)}
    if score is not None:
        check_known(score, [AUTO, PUBLISHED, *SCORES, *owners], "a known score")
    return owners.get(str(score), next(iter(TASKS)))


def _own_names(task: str) -> set[str]:
    routing = load_task(task).routing
    return {*routing.SCORES, *routing.RENAMED, *routing.RETIRED} - SCORES.keys()
