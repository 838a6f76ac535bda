"""One typed definition of a run: the YAML file, `--set a.b=c` and `--print-config` all come from it."""

from ebjr_det.config.identity import identity
from ebjr_det.config.loading import (
    apply_changes,
    dump_config,
    load_config,
    load_score_settings,
    load_specialize_config,
    load_train_config,
    load_weights,
    parse_config,
    parse_section,
    parse_train_config,
)
from ebjr_det.config.sections import CONFIGS, BaseSection, EvaluateConfig, ModelSection, RouterSection
from ebjr_det.config.specialize import SpecializeConfig
from ebjr_det.config.training import LearnConfig, ScheduleSection, TrainConfig, training_identity

__all__ = [
    "CONFIGS",
    "BaseSection",
    "EvaluateConfig",
    "LearnConfig",
    "ModelSection",
    "RouterSection",
    "ScheduleSection",
    "SpecializeConfig",
    "TrainConfig",
    "apply_changes",
    "dump_config",
    "identity",
    "load_config",
    "load_score_settings",
    "load_specialize_config",
    "load_train_config",
    "load_weights",
    "parse_config",
    "parse_section",
    "parse_train_config",
    "training_identity",
]
