"""The file of a fitted router that settings name, read and compared with what they say of it."""

from dataclasses import replace
from pathlib import Path

from ebjr_det.config import RouterSection
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.files import checksum
from ebjr_det.routing.file import RouterFile
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
    if file.header.task != task:
        raise InvalidInput(f"Expected a router for {task}, got `{section.file}` for {file.header.task}.")
    score = load_task(task).routing.RENAMED.get(file.header.score, file.header.score)
    return replace(file, header=replace(file.header, score=score)), digest
