"""ebjr_det: joint inference of a student and a teacher, routed by the student's own logits.

This is the public door: every verb of the command line as a function, `load` for a live pair, and the values
that they take. Names are imported when they are first used, so `import ebjr_det` loads no torch.

>>> from ebjr_det import load_config
>>> load_config("digits").student.arch
'resnet'
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ebjr_det.io.threads import prepare as _prepare

if TYPE_CHECKING:
    from ebjr_det.api.benchmark import BenchmarkSettings as BenchmarkSettings
    from ebjr_det.api.benchmark import benchmark as benchmark
    from ebjr_det.api.build_router import build_router as build_router
    from ebjr_det.api.bulk import BulkSettings as BulkSettings
    from ebjr_det.api.bulk import bulk_predict as bulk_predict
    from ebjr_det.api.bulk_evaluate import bulk_evaluate as bulk_evaluate
    from ebjr_det.api.calibrate import calibrate as calibrate
    from ebjr_det.api.compare import compare as compare
    from ebjr_det.api.convert import convert as convert
    from ebjr_det.api.demo import FilmSettings as FilmSettings
    from ebjr_det.api.demo import demo as demo
    from ebjr_det.api.evaluate import evaluate as evaluate
    from ebjr_det.api.export import export as export
    from ebjr_det.api.fit_front import FrontSettings as FrontSettings
    from ebjr_det.api.fit_front import fit_front as fit_front
    from ebjr_det.api.fit_router import FitSettings as FitSettings
    from ebjr_det.api.fit_router import fit_router as fit_router
    from ebjr_det.api.load import load as load
    from ebjr_det.api.placement import PlacementSettings as PlacementSettings
    from ebjr_det.api.placement import placement as placement
    from ebjr_det.api.predict import predict as predict
    from ebjr_det.api.references import ReferenceFile as ReferenceFile
    from ebjr_det.api.replay import ReplaySettings as ReplaySettings
    from ebjr_det.api.replay import replay as replay
    from ebjr_det.api.report import report as report
    from ebjr_det.api.saved_outputs import SavedOutputs as SavedOutputs
    from ebjr_det.api.serve import build_cluster as build_cluster
    from ebjr_det.api.serve import build_serving as build_serving
    from ebjr_det.api.serve import serve as serve
    from ebjr_det.api.specialize import specialize as specialize
    from ebjr_det.api.tiers import TieredOutputs as TieredOutputs
    from ebjr_det.api.tiers import TierSettings as TierSettings
    from ebjr_det.api.traffic import traffic as traffic
    from ebjr_det.api.train import train as train
    from ebjr_det.config import StatedMix as StatedMix
    from ebjr_det.config.target import Target as Target
    from ebjr_det.core.cost import CostModel as CostModel
    from ebjr_det.core.errors import EbjrError as EbjrError
    from ebjr_det.core.joint import JointModel as JointModel
    from ebjr_det.core.joint import JointTeacher as JointTeacher
    from ebjr_det.core.joint import LeapTeacher as LeapTeacher
    from ebjr_det.core.router import decide as decide
    from ebjr_det.core.scores import deferral_scores as deferral_scores
    from ebjr_det.core.tradeoff import sweep as sweep
    from ebjr_det.core.types import Logits as Logits
    from ebjr_det.core.types import Model as Model
    from ebjr_det.core.types import Output as Output
    from ebjr_det.core.types import PairedRun as PairedRun
    from ebjr_det.io.pictures import as_picture as as_picture
    from ebjr_det.serving.client import Client as Client
    from ebjr_det.serving.settings import ServeSettings as ServeSettings
    from ebjr_det.tasks.classification.in_memory import build_labelled as build_labelled
    from ebjr_det.tasks.detection.detections import Detections as Detections
    from ebjr_det.tasks.detection.in_memory import build_annotated as build_annotated
    from ebjr_det.tasks.detection.outputs import build_output as build_output
    from ebjr_det.tasks.settings import load_config as load_config
    from ebjr_det.tasks.settings import load_specialize_config as load_specialize_config
    from ebjr_det.tasks.settings import load_train_config as load_train_config

_ROOMS = {
    "api.benchmark": "BenchmarkSettings benchmark",
    "api.build_router": "build_router",
    "api.bulk": "BulkSettings bulk_predict",
    "api.bulk_evaluate": "bulk_evaluate",
    "api.calibrate": "calibrate",
    "api.compare": "compare",
    "api.convert": "convert",
    "api.demo": "demo FilmSettings",
    "api.evaluate": "evaluate",
    "api.export": "export",
    "api.fit_front": "FrontSettings fit_front",
    "api.fit_router": "FitSettings fit_router",
    "api.load": "load",
    "api.placement": "PlacementSettings placement",
    "api.predict": "predict",
    "api.references": "ReferenceFile",
    "api.replay": "ReplaySettings replay",
    "api.report": "report",
    "api.saved_outputs": "SavedOutputs",
    "api.serve": "build_cluster build_serving serve",
    "api.specialize": "specialize",
    "api.tiers": "TieredOutputs TierSettings",
    "api.traffic": "traffic",
    "api.train": "train",
    "config": "StatedMix",
    "config.target": "Target",
    "core.cost": "CostModel",
    "core.errors": "EbjrError",
    "core.joint": "JointModel JointTeacher LeapTeacher",
    "core.router": "decide",
    "core.scores": "deferral_scores",
    "core.tradeoff": "sweep",
    "core.types": "Logits Model Output PairedRun",
    "io.pictures": "as_picture",
    "serving.client": "Client",
    "serving.settings": "ServeSettings",
    "tasks.classification.in_memory": "build_labelled",
    "tasks.detection.detections": "Detections",
    "tasks.detection.in_memory": "build_annotated",
    "tasks.detection.outputs": "build_output",
    "tasks.settings": "load_config load_specialize_config load_train_config",
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}
__all__ = sorted(_HOMES)

_prepare()  # before torch and numpy are loaded


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ebjr_det' has no attribute {name!r}")
    return getattr(import_module(f"ebjr_det.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
