"""A pair in the place of a teacher, from a configuration of its own: so three models are a cascade."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from ebjr_det.config import ModelSection
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import JointModel, JointTeacher
from ebjr_det.core.types import Opaque
from ebjr_det.inference.live import choose_threshold
from ebjr_det.inference.ready import make_ready
from ebjr_det.inference.student import weights_of
from ebjr_det.io.checkpoints.finding import check_sha256, find_checkpoint
from ebjr_det.io.files import checksum
from ebjr_det.runtimes.choose import EAGER
from ebjr_det.tasks.contract import Classes
from ebjr_det.tasks.settings import load_config
from ebjr_det.tasks.weights import brought_digest

NESTED = "pair"
"""An `arch` that stands for a pair, of which the checkpoint is the configuration."""


def collated(collate: Callable[[Sequence[Opaque]], Opaque], inputs: Sequence[Opaque]) -> Opaque:
    """A batch as its model takes it; a pair in a teacher's place takes each image in two forms."""
    return inputs if isinstance(inputs[0], tuple) else collate(inputs)


def digest_of(section: ModelSection, above: tuple[Path, ...] = ()) -> str | None:
    """The sha256 of a model's checkpoint; of a pair's that of its configuration and of all files it names.

    Without a checkpoint that of the file or folder which its `arch` names, None where that is none.

    Args:
        above: the configurations that it stands in.

    Raises:
        ConfigError: a pair within itself.
        CheckpointError: no such file, or a pair's, or one that `arch` names, with another checksum than
            `section` tells: of a pair of the configuration alone, or of all.
    """
    if section.checkpoint is None:
        return brought_digest(section)
    path = find_checkpoint(str(section.checkpoint)).resolve()
    if section.arch != NESTED:
        return checksum(path)
    if path in above:
        raise ConfigError(f"Expected pairs within pairs to end, got `{path}` within itself.")
    config, digests = load_config(path), [checksum(path)]
    for side in (config.student, config.teacher):
        digests += filter(None, [digest_of(side, (*above, path))])
    digests += [] if config.router.file is None else [checksum(Path(config.router.file))]
    digest = sha256("".join(digests).encode()).hexdigest()
    if section.sha256 not in (None, digest):
        check_sha256(path, str(section.sha256))
    return digest


def build_nested(task: str, section: ModelSection, classes: Classes, device: str) -> JointTeacher:
    """The pair that `arch: pair` stands for; its configuration is the `checkpoint`.

    Its `data` are not looked at: its models answer about the classes of the outer pair's.

    Args:
        section: of the outer pair's teacher.

    Raises:
        ConfigError: no configuration, one without a threshold, or of runtimes other than eager torch.
        InvalidInput: a configuration of another task.
        CheckpointError: see `digest_of`.
    """
    from ebjr_det.inference.pair import build_models

    if section.checkpoint is None:
        raise ConfigError("Expected the configuration of a pair as `teacher.checkpoint`, got none.")
    digest_of(section)
    path = find_checkpoint(section.checkpoint)
    config = load_config(path)
    if config.task != task:
        raise InvalidInput(f"Expected a pair for {task} in `{path}`, got one for {config.task}.")
    if config.student.popular is not None or {config.student.runtime, config.teacher.runtime} != {EAGER}:
        raise ConfigError(
            f"Expected a pair of all classes in `{path}`, both models with runtime `{EAGER}`, got others."
        )
    scoring, threshold = choose_threshold(config, None, None)
    student, teacher = build_models(config, classes, device)
    make_ready(config, (student, teacher), list, device)  # files go to the device; eager asks no samples
    scoring = scoring.bind(classes.class_names, (), student.name, weights_of(student))
    return JointTeacher(JointModel(student, teacher, scoring, threshold))
