"""Several models' saved outputs, and `replay` of them: which chains of tiers pay, at every budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ebjr_det.api.references import ReferenceFile, check_reference
from ebjr_det.api.saved_outputs import SavedOutputs
from ebjr_det.config import RouterSection
from ebjr_det.config.target import Target
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.tiers import MOST_TIERS, TieredRun
from ebjr_det.core.types import FloatArray, Matches
from ebjr_det.evaluation.run_folder import (
    CONFIG,
    ENVIRONMENT,
    SUMMARY,
    TIERED_RUN,
    TIERS,
    check_replay_folder,
    clear_replay_folder,
)
from ebjr_det.evaluation.tiers.analysis import AUTO, Tier, TieredAnalysis, load_tiered_analysis
from ebjr_det.evaluation.tiers.report import TieredReport, build_tiered_report
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json, writable_folder, write_text
from ebjr_det.io.memory import described, source_of
from ebjr_det.io.notes import said_once
from ebjr_det.io.records import load_tiers, save_tiers
from ebjr_det.reporting.overview import Overview, WrittenResult
from ebjr_det.reporting.page import PAGE
from ebjr_det.reporting.tiers.tables import budget_table
from ebjr_det.reporting.tiers.words import verdict
from ebjr_det.reporting.tiers.write import write_tiers
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Remarks

JUDGES = {"student", "teacher"}


@dataclass(frozen=True)
class TieredOutputs:
    """Several models' saved outputs on the same pictures, and the labels that they are judged by.

    Attributes:
        task: a registered task.
        tiers: two to five models in the order in which pictures go along, each with its name, its
            multiply-adds, its ms where they are known of all, and as `file` a path or what it would hold.
        files: by name what judges them, and `options`, as in `SavedOutputs`.

    Raises:
        ConfigError: fewer or more tiers, two of one name, a cost that cannot be; see `SavedOutputs`.
    """

    task: str
    tiers: Sequence[ReferenceFile]
    files: Mapping[str, object]
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 2 <= len(self.tiers) <= MOST_TIERS:
            raise ConfigError(f"Expected 2 to {MOST_TIERS} tiers, got {len(self.tiers)}.")
        names = [tier.name for tier in self.tiers]
        for tier in self.tiers:
            check_reference(tier, "tier")
            if names.count(tier.name) > 1:
                raise ConfigError(
                    f"Expected a name of its own for every tier, got `{tier.name}` twice. Rename it."
                )
        timed = [tier.name for tier in self.tiers if tier.latency_ms is not None]
        if 0 < len(timed) < len(names):
            raise ConfigError(
                f"Expected the ms of every tier or of none, got them of {', '.join(timed)} alone."
            )
        for side in JUDGES & self.files.keys():
            raise ConfigError(
                f"Expected tiers without a file of `{side}`, got both. Name every model as a tier."
            )
        self.pair(self.tiers[0])

    def pair(self, lower: ReferenceFile) -> SavedOutputs:
        """A tier and the last one as the outputs of two models."""
        models = {"student": lower.file, "teacher": self.tiers[-1].file}
        return SavedOutputs(self.task, {**self.files, **models}, options=self.options)

    def load(self, score: str, remarks: Remarks) -> TieredRun:
        """Match every tier with the ground truth, and score every tier but the last.

        Raises:
            InvalidInput: see the task's `replay`; no labels or annotations; tiers of other images.
        """
        names = self.pair(self.tiers[0]).class_names
        section = RouterSection(score=None if score == AUTO else score)
        scoring = Scoring.load(self.task, section).bind(names)
        records, scores = dict[str, Matches](), dict[str, Mapping[str, FloatArray]]()
        ids: tuple[str, ...] | None = None
        with said_once():
            for tier in self.tiers[:-1]:
                oddities = Remarks()
                try:
                    run = self.pair(tier).load(scoring.scores_of_raw, oddities)
                except InvalidInput as error:
                    sides = f"student is the tier `{tier.name}`, the teacher `{self.tiers[-1].name}`"
                    raise InvalidInput(f"{error} (The {sides}.)") from error
                if run.estimated:
                    raise InvalidInput("Expected labels or annotations beside tiers, got none.")
                if run.image_ids != (ids := ids or run.image_ids):
                    raise InvalidInput(
                        f"Expected the `image_ids` of `{self.tiers[0].name}`, in one order, in "
                        f"`{tier.name}`, got others. Give every file its `image_ids`, or none."
                    )
                called = {"student": tier.name, "teacher": self.tiers[-1].name}
                remarks |= {called.get(file, file): counts for file, counts in oddities.items()}
                records[tier.name], scores[tier.name] = run.student, run.scores
        records[self.tiers[-1].name] = run.teacher
        return TieredRun(self.task, run.image_ids, records, scores)


@dataclass(frozen=True)
class TierSettings:
    """How several models' outputs are looked at.

    Attributes:
        score: of every tier but the last, by default for each the best on the pictures that choose.
        target: what thresholds are wanted for: `macs` or `latency_ms` at most, or `min_quality`.
        fraction: of the pictures, that choose; the others are reported.
        seed: of that part and of the bootstrap; `replicates`: by default as many as the task's `bootstrap`.
    """

    score: str = AUTO
    target: Target | None = None
    fraction: float = 0.5
    seed: int = 0
    replicates: int | None = None


@dataclass(frozen=True, repr=False)
class TieredResult(WrittenResult[TieredReport]):
    """What an evaluation or a replay of tiers found."""

    def overview(self) -> Overview:
        """Whether more than two tiers pay, and the best chain by budget."""
        kind = next(iter(self.report.table))
        return Overview(verdict(self.report), budget_table(self.report, kind), self.folder / PAGE)


def replay_tiers(outputs: TieredOutputs, out: Path, settings: TierSettings) -> TieredResult:
    """The best chains of several models by budget, chosen on one part of the pictures and judged on the rest.

    Raises:
        Infeasible: nothing meets the target; nothing is written then.
        EbjrError: see `TieredOutputs`.
    """
    check_replay_folder(out)
    remarks, plugin = Remarks(), load_task(outputs.task)
    tiers = tuple(Tier(tier.name, tier.macs, tier.latency_ms) for tier in outputs.tiers)
    analysis = TieredAnalysis(
        title=f"Replay: {', '.join(tier.name for tier in tiers)}",
        tiers=tiers,
        score=settings.score,
        target=settings.target,
        fraction=settings.fraction,
        seed=settings.seed,
        replicates=plugin.bootstrap if settings.replicates is None else settings.replicates,
        remarks=remarks,
    )
    run = outputs.load(settings.score, remarks)
    report = build_tiered_report(run, plugin.judge(), analysis)
    clear_replay_folder(out)
    write_text(out / CONFIG, yaml.safe_dump(_resolved(outputs, settings), sort_keys=False))
    write_text(out / ENVIRONMENT, to_json(describe_environment("cpu", settings.seed)))
    save_tiers(run, out / TIERED_RUN)
    write_text(out / TIERS, analysis.to_json())
    return TieredResult(report, write_tiers(report, out, out), out)


def report_tiers(folder: Path, target: Path) -> TieredResult:
    """The report of a replay of tiers drawn anew from its records and its analysis."""
    run, analysis = load_tiered_folder(folder)
    built = build_tiered_report(run, load_task(run.task).judge(), analysis)
    (writable_folder(target) / SUMMARY).unlink(missing_ok=True)
    return TieredResult(built, write_tiers(built, folder, target), target)


def load_tiered_folder(folder: Path) -> tuple[TieredRun, TieredAnalysis]:
    """A finished run of several tiers. Raises InvalidInput for none, or one whose files do not fit."""
    run, analysis = load_tiers(folder / TIERED_RUN), load_tiered_analysis(folder)
    if run.names != tuple(tier.name for tier in analysis.tiers):
        raise InvalidInput(f"Expected records and analysis of the same tiers in `{folder}`, got others.")
    return run, analysis


def _resolved(outputs: TieredOutputs, settings: TierSettings) -> dict[str, object]:
    """The settings as a run folder keeps them."""
    return {
        "replay": outputs.task,
        "tiers": [tier.to_dict() for tier in outputs.tiers],
        **{name: described(source_of(name, content)) for name, content in outputs.files.items()},
        "score": settings.score,
        "target": None if settings.target is None else settings.target.to_dict(),
        "fraction": settings.fraction,
        "seed": settings.seed,
        **outputs.options,
    }
