"""One typed definition of a run: the YAML file, `--set a.b=c` and `--print-config` all come from it."""

from ebjr_det.config.class_files import listed_classes, load_classes, load_histogram, yaml_content
from ebjr_det.config.described import Setting, commented, describe
from ebjr_det.config.faults import parse_section
from ebjr_det.config.identity import identity
from ebjr_det.config.loading import (
    apply_changes,
    dump_config,
    load_score_settings,
    load_settings,
    load_weights,
    shipped_for,
)
from ebjr_det.config.sections import (
    BaseSection,
    EvaluateConfig,
    ModelSection,
    RouterSection,
)
from ebjr_det.config.specialize import SpecializeConfig
from ebjr_det.config.stated import Reference, StatedMix
from ebjr_det.config.training import LearnConfig, ScheduleSection, TrainConfig, training_identity

__all__ = [
    "BaseSection",
    "EvaluateConfig",
    "LearnConfig",
    "ModelSection",
    "Reference",
    "RouterSection",
    "ScheduleSection",
    "Setting",
    "SpecializeConfig",
    "StatedMix",
    "TrainConfig",
    "apply_changes",
    "commented",
    "describe",
    "dump_config",
    "identity",
    "listed_classes",
    "load_classes",
    "load_histogram",
    "load_score_settings",
    "load_settings",
    "load_weights",
    "parse_section",
    "shipped_for",
    "training_identity",
    "yaml_content",
]
