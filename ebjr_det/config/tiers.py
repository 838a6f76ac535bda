"""The models of a configuration in the order in which pictures go along: two, or of nested pairs more."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from ebjr_det.config.faults import parse_section
from ebjr_det.config.nesting import NESTED
from ebjr_det.config.sections import EvaluateConfig, ModelSection, RouterSection

Config = TypeVar("Config", bound=EvaluateConfig)
OF_OUTER = {"title", "student", "teacher", "router", "topology", "references", "traffic"}
"""Sections of a pair that a pair in its teacher's place does not share."""


class Tier(NamedTuple):
    """A model, and what passes pictures on to the next one; of the last tier nobody asks."""

    section: ModelSection
    router: RouterSection = RouterSection()


def inner_pair(config: Config) -> Config | None:
    """The pair in the teacher's place whose settings are the teacher's `options`; None for none.

    Raises:
        ConfigError: the first fault in these.
    """
    teacher = config.teacher
    if teacher.arch != NESTED or teacher.checkpoint is not None or not teacher.options:
        return None
    return parse_section(type(config), config.model_dump(exclude=OF_OUTER) | teacher.options)


def tiers_of(config: EvaluateConfig) -> list[Tier]:
    """The models of a configuration, from the student on; a pair in a file of its own is one of them."""
    inner = inner_pair(config)
    upper = [Tier(config.teacher)] if inner is None else tiers_of(inner)
    return [Tier(config.student, config.router), *upper]


def with_tiers(config: Config, tiers: Sequence[Tier]) -> Config:
    """The configuration with other models, two at least: the inverse of `tiers_of`."""
    first, *between, last = tiers
    teacher = last.section
    for tier in reversed(between):
        pair = {"student": tier.section, "teacher": teacher, "router": tier.router}
        options: dict[str, object] = {name: section.model_dump() for name, section in pair.items()}
        if teacher is not last.section and config.topology == "leap":
            options["topology"] = config.topology
        teacher = type(last.section)(arch=NESTED, options=options)
    if teacher.arch == NESTED == config.teacher.arch and between:  # which may have a name and costs
        teacher = config.teacher.model_copy(update={"options": teacher.options})
    topology = config.topology if between else None
    changes = {"student": first.section, "teacher": teacher, "router": first.router, "topology": topology}
    return config.model_copy(update=changes)


def stated(config: EvaluateConfig) -> dict[str, object]:
    """The settings as plain values, more than two models as `tiers`."""
    settings, tiers = config.model_dump(), tiers_of(config)
    if len(tiers) == 2 or config.teacher.name or config.teacher.macs:
        return settings
    sections = [tier.section.model_dump() | {"router": tier.router.model_dump()} for tier in tiers]
    del sections[-1]["router"]
    start = list(settings).index("student")
    plain = [
        (name, value) for name, value in settings.items() if name not in ("student", "teacher", "router")
    ]
    return dict([*plain[:start], ("tiers", sections), *plain[start:]])
