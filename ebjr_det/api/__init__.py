"""The verbs: a configuration or files in, a run folder and a result out. The command line adds nothing.

Every verb checks what it can before it computes, and returns the JSON object that `--json` prints. A verb is
a module here.
"""

from ebjr_det.api.calibrate import calibrate
from ebjr_det.api.evaluate import evaluate
from ebjr_det.api.replay import replay

__all__ = ["calibrate", "evaluate", "replay"]
