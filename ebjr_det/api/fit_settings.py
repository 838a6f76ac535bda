"""How routers are fitted, and what of it can be refused before anything is fitted."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ebjr_det.config import RouterSection
from ebjr_det.config.sections import AUTO
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, InvalidInput, check_known, did_you_mean
from ebjr_det.core.router import check_rate
from ebjr_det.core.scores import SCORES
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.bootstrap import check_replicates
from ebjr_det.evaluation.run_folder import check_replay_folder
from ebjr_det.io.files import check_writable
from ebjr_det.tasks.routing import Routing, TaskScore


class FitSettings(NamedTuple):
    """How a router is fitted and chosen.

    Attributes:
        score, rescaling: to be saved; `auto` takes the best out of fold.
        class_weights: what classes are worth by name, 1 where not named.
        folds, seed: of the cross-validation; `replicates`: of the bootstrap.
        cost: of both models; `rates`: deferral rates to print; for the report, which takes the first rate for
            its chosen point.
    """

    score: str = AUTO
    rescaling: str = AUTO
    class_weights: Mapping[str, float] | None = None
    folds: int = 5
    seed: int = 0
    replicates: int = 100
    cost: CostModel = CostModel()
    rates: tuple[float, ...] = ()


DEFAULTS = FitSettings()


def check_settings(settings: FitSettings, run: PairedRun, routing: Routing) -> None:
    """Raises ConfigError for what no fit on this run could give: a score, a rescaling, a rate."""
    check_replicates(settings.replicates)
    for rate in settings.rates:
        check_rate(rate)
    rescalings_of(settings, routing)
    name = settings.score
    blind = run.features is None
    allowed = {n for n, s in routing.SCORES.items() if not (s.candidates or (blind and s.features))}
    offered = {*run.scores, *allowed}
    if name == AUTO or name in offered:
        return
    if name in SCORES or name in routing.SCORES:
        score = routing.SCORES.get(name, TaskScore("", ""))
        lacks = "raw candidates" if score.candidates else "the logits of all classes"
        lacks = "the student's features" if score.features else lacks
        raise ConfigError(
            f"Expected a score that these answers allow, got `{name}`, for which they lack {lacks}. "
            "Fit on an evaluated run of the models themselves, or choose another score."
        )
    raise ConfigError(f"Expected a known score, got `{name}`. {did_you_mean(name, sorted(offered))}")


def check_run(analysis: Analysis, routing: Routing) -> None:
    """Raises EbjrError where a finished run cannot be fitted on as asked."""
    bent = [name for name in analysis.score_options if name in routing.INPUT_SCORES]
    if bent:
        raise InvalidInput(
            f"Expected a run whose `{bent[0]}` has no options, which a learned router would not see, got "
            f"{analysis.score_options[bent[0]]}. Evaluate or replay without them."
        )


def check_places(out: Path, report_dir: str | Path | None) -> None:
    """Raises EbjrError where the router or its report cannot be written; leaves nothing behind."""
    if out.is_dir():
        raise InvalidInput(f"Expected a file for the router, got the folder `{out}`.")
    if report_dir is not None:
        check_replay_folder(Path(report_dir))
    check_writable(out.parent)


def rescalings_of(settings: FitSettings, routing: Routing) -> list[str]:
    """The rescalings to be tried."""
    valid = list(routing.RESCALINGS)
    if settings.rescaling == AUTO:
        return valid
    check_known(settings.rescaling, valid, "a known rescaling")
    return [settings.rescaling]


def settings_of(
    score: str, section: RouterSection, decided: str, routing: Routing
) -> tuple[str, dict[str, object]]:
    """A registered score and all that turns logits into it, so that other settings cannot change it.

    Args:
        score: of a run; one of `Routing.VARIANTS` has settings of its own.
        section: the run's settings, the options of which are those of `decided` alone.
    """
    base, variant = routing.VARIANTS.get(score, (score, {}))
    options = section.options if base == decided else {}
    logits_settings = {"top_k": section.top_k, "aggregate": section.aggregate, "options": options, **variant}
    return base, logits_settings if section.other_logit else logits_settings | {"other_logit": False}
