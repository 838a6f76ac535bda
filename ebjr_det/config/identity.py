"""Which settings a run's records depend on, so that `--resume` can go on with them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ebjr_det.config.sections import EvaluateConfig
from ebjr_det.config.tiers import inner_pair
from ebjr_det.io.files import checksum

BESIDE_RECORDS = (
    "title",
    "references",
    "traffic",
    "latency",
    "data.verify",
    "data.skip_unreadable",
    "student.name",
    "student.macs",
    "teacher.name",
    "teacher.macs",
    "router.score",
    "router.options",
    "router.threshold",
    "router.target",
    "router.front",
    "router.front_threshold",
    "topology",
    "run.teacher_batch",
    "run.patience_ms",
    "run.overlap",
    "run.regroup",
    "run.tolerance",
    "run.int8_loss",
    "run.flush_seconds",
    "run.workers",
    "run.threads",
    "run.bootstrap",
)
"""Settings, or whole sections, that change what is said of the records and never the records themselves.

Every other one, also one that a later version adds, is part of a run's identity; four of them by what they
stand for: weights and a router's file by their checksum, a score only where it has options of its own, and
the seed only where a network begins with random weights, which follow from it.
"""


def identity(config: EvaluateConfig) -> dict[str, object]:
    """The settings that a run's records depend on; two configurations that share them can share a run.

    >>> from ebjr_det.tasks.settings import load_config
    >>> quick = identity(load_config("configs/quickstart.yaml"))
    >>> "student.arch" in quick, "student.macs" in quick
    (True, False)
    """
    settings = dict(_leaves(config.model_dump(), ""))
    router = config.router
    fitted = router.sha256 if router.file is None or router.sha256 else checksum(Path(router.file))
    if router.options:
        settings |= {"router.score and options": (router.score, router.options)}
    for side in (config.student, config.teacher):
        key = "student" if side is config.student else "teacher"
        if side.checkpoint is not None and side.sha256 is not None:
            del settings[f"{key}.checkpoint"]
    if (inner := inner_pair(config)) is not None:
        settings["teacher.options"] = identity(inner)
    elif not any(
        side.checkpoint is None and not side.pretrained for side in (config.student, config.teacher)
    ):
        del settings["run.seed"]
    return settings | {"router.file": fitted, "router.sha256": fitted}


def _leaves(section: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    """Each setting by its whole name, sections that stand beside the records left out."""
    for key, value in section.items():
        name = prefix + key
        if name in BESIDE_RECORDS:
            continue
        if isinstance(value, dict) and not prefix:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value
