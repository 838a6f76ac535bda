"""Two models' outputs, in files or in memory, as `replay` and `fit_router` take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ebjr_det.api.references import ReferenceFile
from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.core.types import PairedRun
from ebjr_det.io.memory import Source, source_of
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Remarks, Scores


@dataclass(frozen=True)
class SavedOutputs:
    """Two models' saved outputs on the same pictures, and what they are judged by.

    Attributes:
        task: a registered task; `files`: what it reads, by name: `TaskPlugin.replay_files`. Each is a path,
            or what such a file would hold: of classifiers arrays, or a mapping of some by the keys of the
            `.npz`; of detectors COCO's lists and objects, or pycocotools' `COCO`. Without
            annotations or labels what the models say stands in for them, and every quality is an estimate.
        references: further single models on the same pictures.
        options: the task's own, of `TaskPlugin.replay_options`.

    Raises:
        ConfigError: an unknown task, file or option, with the nearest; or a file that is missing.
    """

    task: str
    files: Mapping[str, object]
    references: Sequence[ReferenceFile] = ()
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plugin = load_task(self.task)
        _check_known("file", self.files, plugin.replay_files)
        _check_known("option", self.options, plugin.replay_options)
        for name, file in plugin.replay_files.items():
            if name not in self.files and not file.optional:
                raise ConfigError(f"Expected a file of `{name}` for {self.task}, got none.")

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Where each is read from, by name."""
        return {name: source_of(name, content) for name, content in self.files.items()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the ground truth, by index; none where it tells none."""
        return load_task(self.task).replay.class_names(**self.sources)

    def load(self, scores: Scores, remarks: Remarks, popular: Sequence[str | int] | None = None) -> PairedRun:
        """Match everything with the ground truth.

        Args:
            scores: the student's answers -> deferral scores by name.
            remarks: gets what was odd, by file.
            popular: classes that a specialised student tells apart.

        Raises:
            InvalidInput: see the task's `replay`.
        """
        references = {reference.name: reference.answers for reference in self.references}
        specialised = {} if popular is None else {"popular": popular}
        return load_task(self.task).replay.load_pair(
            self.sources, scores, references, remarks=remarks, **specialised, **self.options
        )


def _check_known(kind: str, names: Mapping[str, object], valid: Mapping[str, object]) -> None:
    for name in names:
        check_known(name, valid, f"a known {kind}")
