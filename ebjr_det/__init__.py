"""ebjr_det: joint inference of a student and a teacher, routed by the student's own logits.

This is the public door. Names are imported when they are first used, so `import ebjr_det` loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ebjr_det.io.threads import prepare as _prepare

if TYPE_CHECKING:
    from ebjr_det.api import calibrate as calibrate
    from ebjr_det.api import evaluate as evaluate
    from ebjr_det.api import replay as replay
    from ebjr_det.core.calibration import Target as Target
    from ebjr_det.core.cost import CostModel as CostModel
    from ebjr_det.core.errors import EbjrError as EbjrError
    from ebjr_det.core.joint import JointModel as JointModel
    from ebjr_det.core.router import decide as decide
    from ebjr_det.core.scores import deferral_scores as deferral_scores
    from ebjr_det.core.tradeoff import sweep as sweep
    from ebjr_det.core.types import Logits as Logits
    from ebjr_det.core.types import Model as Model
    from ebjr_det.core.types import Output as Output
    from ebjr_det.core.types import PairedRun as PairedRun
    from ebjr_det.tasks.settings import load_config as load_config

_HOMES = {
    "calibrate": "api",
    "evaluate": "api",
    "replay": "api",
    "load_config": "tasks.settings",
    "Target": "core.calibration",
    "CostModel": "core.cost",
    "EbjrError": "core.errors",
    "JointModel": "core.joint",
    "decide": "core.router",
    "deferral_scores": "core.scores",
    "sweep": "core.tradeoff",
    "Logits": "core.types",
    "Model": "core.types",
    "Output": "core.types",
    "PairedRun": "core.types",
}
__all__ = sorted(_HOMES)

_prepare()  # before torch and numpy are loaded


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ebjr_det' has no attribute {name!r}")
    return getattr(import_module(f"ebjr_det.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
