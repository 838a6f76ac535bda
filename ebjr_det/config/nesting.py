"""Several models as they are stated, in a list, turned into a pair whose teacher is a pair."""

from collections.abc import Mapping, Sequence

from ebjr_det.core.errors import ConfigError

NESTED = "pair"
"""An `arch` that stands for a pair; its settings are its `options`, or in the file that is its checkpoint."""


def paired(settings: Mapping[str, object], tiers: object) -> Mapping[str, object]:
    """The sections of a pair whose teacher is the pair of the further tiers.

    What is no list of sections is left for whoever checks the `tiers` themselves.

    Args:
        settings: that hold the tiers; they may have a `target` in `router`, for the thresholds of all.

    Raises:
        ConfigError: other models or router settings beside them, two of one name, a router of the last one.
    """
    for name in ("student", "teacher"):
        if name in settings:
            raise ConfigError(f"Expected no `{name}` beside `tiers`, got one. Name every model as a tier.")
    router = settings.get("router") or {}
    if not isinstance(router, Mapping) or router.keys() - {"target"}:
        raise ConfigError("Expected `router` beside `tiers` with `target` alone: each tier has its own.")
    if not isinstance(tiers, Sequence) or len(tiers) < 2 or not all(isinstance(t, Mapping) for t in tiers):
        return {}
    if tiers[-1].get("router"):
        raise ConfigError(
            "Expected no `router` of the last of the `tiers`, which passes on nothing, got one."
        )
    if settings.get("topology") == "leap" and len(tiers) < 3:
        raise ConfigError("Expected three `tiers` at least for `topology: leap`, got two.")
    names = [tier["name"] for tier in tiers if tier.get("name")]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"Expected a name of its own for every tier, got `{repeated}` twice. Rename it.")
    pair: dict[str, object] = _model(tiers[-1])
    for tier in reversed(tiers[:-1]):
        inner = "student" in pair
        teacher = {"arch": NESTED, "options": pair} if inner else pair
        pair = {"student": _model(tier), "teacher": teacher, "router": tier.get("router") or {}}
        pair |= {"topology": "leap"} if inner and settings.get("topology") == "leap" else {}
    return {**pair, "router": {**tiers[0].get("router", {}), **router}}


def _model(tier: Mapping[str, object]) -> dict[str, object]:
    """A tier without its router."""
    return {name: value for name, value in tier.items() if name != "router"}
