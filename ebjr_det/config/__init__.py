"""One typed definition of a run: the YAML file, `--set a.b=c` and `--print-config` all come from it."""

from ebjr_det.config.loading import dump_config, identity, load_config, parse_config, parse_section
from ebjr_det.config.sections import CONFIGS, EvaluateConfig, RouterSection

__all__ = [
    "CONFIGS",
    "EvaluateConfig",
    "RouterSection",
    "dump_config",
    "identity",
    "load_config",
    "parse_config",
    "parse_section",
]
