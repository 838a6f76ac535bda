"""One typed definition of a run: the YAML file, `--set a.b=c` and `--print-config` all come from it."""

from ebjr_det.config.loading import (
    dump_config,
    identity,
    load_config,
    load_score_settings,
    load_train_config,
    load_weights,
    parse_config,
    parse_section,
)
from ebjr_det.config.sections import CONFIGS, EvaluateConfig, ModelSection, RouterSection
from ebjr_det.config.training import ScheduleSection, TrainConfig

__all__ = [
    "CONFIGS",
    "EvaluateConfig",
    "ModelSection",
    "RouterSection",
    "ScheduleSection",
    "TrainConfig",
    "dump_config",
    "identity",
    "load_config",
    "load_score_settings",
    "load_train_config",
    "load_weights",
    "parse_config",
    "parse_section",
]
