"""Two models' outputs in files, as `replay` and `fit_router` take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ebjr_det.api.references import ReferenceFile
from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.core.types import PairedRun
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Remarks, Scores


@dataclass(frozen=True)
class SavedOutputs:
    """Two models' saved outputs on the same pictures, and what they are judged by.

    Attributes:
        task: a registered task; `files`: what it reads, by name: `TaskPlugin.replay_files`.
        references: further single models on the same pictures.
        options: the task's own, of `TaskPlugin.replay_options`.

    Raises:
        ConfigError: an unknown task, file or option, with the nearest; or a file that is missing.
    """

    task: str
    files: Mapping[str, str | Path]
    references: Sequence[ReferenceFile] = ()
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plugin = load_task(self.task)
        _check_known("file", self.files, plugin.replay_files)
        _check_known("option", self.options, plugin.replay_options)
        for name in plugin.replay_files:
            if name not in self.files:
                raise ConfigError(f"Expected a file of `{name}` for {self.task}, got none.")

    @property
    def paths(self) -> dict[str, Path]:
        """The files by name."""
        return {name: Path(path) for name, path in self.files.items()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the ground truth, by index; none where it tells none."""
        return load_task(self.task).replay.class_names(**self.paths)

    def load(self, scores: Scores, remarks: Remarks, popular: Sequence[str | int] | None = None) -> PairedRun:
        """Match everything with the ground truth.

        Args:
            scores: the student's answers -> deferral scores by name.
            remarks: gets what was odd, by file.
            popular: classes that a specialised student tells apart.

        Raises:
            InvalidInput: see the task's `replay`.
        """
        references = {reference.name: reference.file for reference in self.references}
        specialised = {} if popular is None else {"popular": popular}
        return load_task(self.task).replay.load_pair(
            self.paths, scores, references, remarks=remarks, **specialised, **self.options
        )


def _check_known(kind: str, names: Mapping[str, object], valid: Mapping[str, object]) -> None:
    for name in names:
        check_known(name, valid, f"a known {kind}")


def name_of(path: Path) -> str:
    """A file's name without what it ends in, safe to print."""
    stem = Path(path.name.removesuffix(".gz")).stem
    return "".join(letter if letter.isprintable() else "?" for letter in stem)
