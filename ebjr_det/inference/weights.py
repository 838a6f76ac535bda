"""Is a student the one that a router was fitted for? By its name, and by a digest of its weights."""

from hashlib import sha256
from typing import Any

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.checkpoints.fitting import UNUSED, is_dense
from ebjr_det.routing.file import RouterHeader
from ebjr_det.tasks.adapted import plain

WEIGHTS = "weights_sha256"
"""What a profile calls `weights_of` its model."""


def weights_of(model: Any) -> str:
    """A digest of a model's weights, the same on every device and runtime, whatever its tensors are called.

    Empty where the model shows none: one that is no torch module, an exported one, or one whose weights are
    packed, as those of quantised layers are.
    """
    inner = plain(model)
    shown = (getattr(inner, name, None) for name in ("graph", "network"))
    module = next((part for part in (*shown, inner) if hasattr(part, "state_dict")), None)
    if module is None:
        return ""
    digest = sha256()
    for key, value in module.state_dict().items():
        if not is_dense(value):
            return ""
        if not key.endswith(UNUSED):  # no weight, and some ways to save a network drop it
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def check_student_of(header: RouterHeader, name: str, weights: str, where: str) -> None:
    """Raises InvalidInput where a router was fitted for a student of another name or of other weights.

    Args:
        weights: a digest as `RouterHeader.student_weights`; nothing is compared where either is empty.
    """
    if header.student and header.student != name:
        raise InvalidInput(
            f"Expected a router made for student `{name}`, got `{where}` for `{header.student}`. "
            "Fit a router for this one."
        )
    if header.student_weights and weights and header.student_weights != weights:
        raise InvalidInput(
            f"Expected a router made for this student, got `{where}` for one of the same name with other "
            f"weights (sha256 {header.student_weights[:12]}..., here {weights[:12]}...). "
            "Fit a router for this one."
        )
