"""A pair in the place of a teacher, of `tiers` or of a configuration of its own: three models in a row."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from ebjr_det.config import EvaluateConfig, ModelSection
from ebjr_det.config.nesting import NESTED
from ebjr_det.config.tiers import inner_pair
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import JointModel, JointTeacher, LeapTeacher
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


def nested_pair(config: EvaluateConfig) -> EvaluateConfig | None:
    """The pair that is a configuration's teacher, from its settings there or in a file; None for one model.

    Raises:
        ConfigError: no settings, or a pair within itself. CheckpointError: see `digest_of`.
    """
    teacher = config.teacher
    if teacher.arch != NESTED:
        return None
    if (inner := inner_pair(config)) is not None:
        return inner
    if teacher.checkpoint is None:
        raise ConfigError("Expected the configuration of a pair as `teacher.checkpoint`, got none.")
    digest_of(teacher)
    return load_config(find_checkpoint(teacher.checkpoint))


def build_nested(
    config: EvaluateConfig, inner: EvaluateConfig, classes: Classes, device: str
) -> JointTeacher:
    """The pair that is a configuration's teacher.

    Its `data` are not looked at: its models answer about the classes of the outer pair's.

    Raises:
        ConfigError: no threshold, or runtimes other than eager torch.
        InvalidInput: a configuration of another task.
    """
    from ebjr_det.inference.pair import build_models

    origin = f"`{config.teacher.checkpoint}`" if config.teacher.checkpoint else "the tiers"
    if inner.task != config.task:
        raise InvalidInput(f"Expected a pair for {config.task} in {origin}, got one for {inner.task}.")
    if inner.student.popular is not None or {inner.student.runtime, inner.teacher.runtime} != {EAGER}:
        raise ConfigError(
            f"Expected models of all classes in {origin} after the first one, with runtime `{EAGER}`, got "
            "others."
        )
    scoring, threshold = choose_threshold(inner, None, None)
    student, teacher = build_models(inner, classes, device)
    make_ready(inner, (student, teacher), list, device)  # files go to the device; eager asks no samples
    scoring = scoring.bind(classes.class_names, (), student.name, weights_of(student))
    kind = LeapTeacher if config.topology == "leap" else JointTeacher
    return kind(JointModel(student, teacher, scoring, threshold))
