"""The file of a fitted router that settings name, read and compared with what they say of it."""

from dataclasses import replace
from pathlib import Path

from ebjr_det.config import RouterSection
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.files import checksum
from ebjr_det.routing.file import FRONT, RouterFile
from ebjr_det.tasks import load_task


def load_router_file(task: str, section: RouterSection) -> tuple[RouterFile, str]:
    """The router's file and its checksum. Raises InvalidInput for another file, or one of another task."""
    path = Path(str(section.file))
    file, digest = RouterFile.load(path), checksum(path)
    if section.sha256 not in (None, digest):
        raise InvalidInput(
            f"Expected the router with sha256 {str(section.sha256)[:12]}... at `{section.file}`, got "
            "another. Name the one that was meant, or evaluate anew."
        )
    check_task(file, task, path)
    if file.header.score == FRONT:
        raise InvalidInput(
            f"Expected a router that scores the student's answers, got `{path}`, which stands in front of "
            "the student. Name it as `router.front`."
        )
    score = load_task(task).routing.RENAMED.get(file.header.score, file.header.score)
    return replace(file, header=replace(file.header, score=score)), digest


def load_front_file(task: str, path: Path) -> RouterFile:
    """The file of a router in front of the student. Raises InvalidInput for another file or task."""
    file = RouterFile.load(path)
    if file.header.score != FRONT:
        raise InvalidInput(
            f"Expected a router in front of the student, got `{path}`, which scores the student's answers. "
            "Make one: ebjr-det fit-router front."
        )
    check_task(file, task, path)
    return file


def check_no_front(section: RouterSection) -> None:
    """Raises ConfigError for settings with a router in front where only pairs without one are at work."""
    if section.front is not None:
        raise ConfigError(
            f"Expected a pair without `router.front`, which `predict`, `bulk predict`, `demo`, `export` and "
            f"`load` alone take, got `{section.front}`. Leave it and `router.front_threshold` out, "
            "of an export by exporting again; `placement` judges it on a run."
        )


def check_task(file: RouterFile, task: str, path: Path) -> None:
    """Raises InvalidInput for a router of another task."""
    if file.header.task != task:
        raise InvalidInput(f"Expected a router for {task}, got `{path}` for {file.header.task}.")
