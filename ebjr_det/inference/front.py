"""The router in front of a live pair's student, from its file."""

from collections.abc import Sequence
from pathlib import Path

from ebjr_det.config import EvaluateConfig
from ebjr_det.core.joint import Front
from ebjr_det.core.types import Model
from ebjr_det.inference.absent import SIDES, AbsentModel
from ebjr_det.inference.exported import Exported
from ebjr_det.inference.pair import resolve_device
from ebjr_det.inference.router_file import load_front_file
from ebjr_det.inference.student import weights_of
from ebjr_det.routing.file import check_classes, check_model_of
from ebjr_det.tasks.front import FrontRouter


def build_front(
    config: EvaluateConfig | Exported, class_names: Sequence[str], popular: Sequence[str],
    models: tuple[Model, Model],
) -> Front:  # fmt: skip
    """The router that `router.front` names, at its threshold, for these very models.

    Raises:
        InvalidInput: no such file, or one of another task, pair, or set of classes.
    """
    if isinstance(config, Exported):
        from ebjr_det.inference.exported_front import load_front

        assert config.content.front is not None
        return load_front(config.content.front, config.folder, config.device)
    path, threshold = Path(str(config.router.front)), config.router.front_threshold
    assert threshold is not None, "settings have both or neither"
    file = load_front_file(config.task, path)
    check_classes(file.header, class_names, str(path), popular)
    for side, model in zip(SIDES, models, strict=True):
        if isinstance(model, AbsentModel):  # which its own machine has compared
            continue
        check_model_of(file.header, model.name, weights_of(model), str(path), side)
    return Front(FrontRouter.of_file(file, path, resolve_device(config.run.device)), threshold)
