"""The verbs: a configuration or files in, a run folder and a result out. The command line adds nothing.

Every verb checks what it can before it computes, and returns the JSON object that `--json` prints. A verb is
a module here.
"""

from ebjr_det.api.benchmark import BenchmarkSettings, benchmark
from ebjr_det.api.calibrate import calibrate
from ebjr_det.api.compare import compare
from ebjr_det.api.demo import FilmSettings, demo
from ebjr_det.api.evaluate import evaluate
from ebjr_det.api.export import export
from ebjr_det.api.fit_router import FitSettings, fit_router
from ebjr_det.api.load import load
from ebjr_det.api.predict import predict
from ebjr_det.api.replay import ReplaySettings, replay
from ebjr_det.api.report import report
from ebjr_det.api.saved_outputs import SavedOutputs
from ebjr_det.api.settings import load_settings, to_config
from ebjr_det.api.specialize import specialize
from ebjr_det.api.traffic import traffic
from ebjr_det.api.train import train
from ebjr_det.config import StatedMix

__all__ = [
    "BenchmarkSettings",
    "FilmSettings",
    "FitSettings",
    "ReplaySettings",
    "SavedOutputs",
    "StatedMix",
    "benchmark",
    "calibrate",
    "compare",
    "demo",
    "evaluate",
    "export",
    "fit_router",
    "load",
    "load_settings",
    "predict",
    "replay",
    "report",
    "specialize",
    "to_config",
    "traffic",
    "train",
]
