"""`benchmark`: how fast student, teacher and the pair are on this machine, after MLPerf's scenarios."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ebjr_det.config import EvaluateConfig
from ebjr_det.core.errors import ConfigError
from ebjr_det.evaluation.benchmark.against import Against, check_subjects
from ebjr_det.evaluation.benchmark.machine import gpu_state
from ebjr_det.evaluation.benchmark.measure import BenchmarkSettings as BenchmarkSettings
from ebjr_det.evaluation.benchmark.measure import Measurement
from ebjr_det.evaluation.benchmark.result import RESULT, Benchmark, Machine, Summary, UsedModel
from ebjr_det.evaluation.benchmark.subjects import halves, points_at, sample_of, scores_of
from ebjr_det.evaluation.benchmark.summary import summarize
from ebjr_det.inference.router_file import check_no_front
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import check_answers, weights_of
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import check_writable, writable_folder, write_text
from ebjr_det.io.joules import joule_counter
from ebjr_det.io.threads import on_threads
from ebjr_det.reporting.benchmark.tables import benchmark_tables, sentences, short_tables, verdict
from ebjr_det.reporting.overview import Overview, PrintedResult
from ebjr_det.reporting.table import document

if TYPE_CHECKING:
    from ebjr_det.inference.pair import Pair

DEFAULTS = BenchmarkSettings()


@dataclass(frozen=True, repr=False)
class BenchmarkResult(PrintedResult):
    """What was measured, its numbers, how it compares with an earlier one, and where it was written."""

    benchmark: Benchmark
    summary: Summary
    against: Against | None
    folder: Path

    def overview(self) -> Overview:
        """How fast the pair is beside its teacher, one image after the other."""
        single = short_tables(self.benchmark, self.summary, None)[0]
        return Overview(verdict(self.benchmark, self.summary), single, self.folder)

    def to_dict(self) -> Summary:
        """Plain values for JSON."""
        return self.summary


@on_threads("run")
def benchmark(
    config: EvaluateConfig,
    out: str | Path,
    settings: BenchmarkSettings = DEFAULTS,
    *,
    known_threshold: float | None = None,
    against: str | Path | None = None,
) -> BenchmarkResult:
    """Time student, teacher and the pair side by side on a seeded sample of the data; judge no answer.

    Four scenarios: the stages of an image, single stream, offline and server (see `scenarios`). Writes
    `benchmark.json` with every call, `benchmark.md`, `.png` and `.svg` to `out`.

    Args:
        known_threshold: of a finished run, one more point where `settings` have no threshold, as is that of
            the configuration.
        against: an earlier `benchmark.json` of the same subjects, or its folder.

    Raises:
        ConfigError: no rate and no threshold. InvalidInput: nowhere to write, or no such earlier benchmark.

    Example:
        >>> from ebjr_det import BenchmarkSettings, benchmark, load_config
        >>> settings = BenchmarkSettings(rates=(0.5,), images=8, batch_sizes=(1,), seconds=0.05)
        >>> result = benchmark(load_config("digits"), "timed", settings)
        >>> (Path("timed") / "benchmark.json").is_file()
        True
    """
    from ebjr_det.inference.pair import Pair

    average, folder = os.getloadavg(), Path(out)
    earlier = None if against is None else Benchmark.load(Path(against))
    check_no_front(config.router)
    scoring = Scoring.load(config.task, config.router, live=True)
    check_writable(folder)
    pair = Pair.build(config.model_copy(update={"router": scoring.section}))
    measurement = _prepared(pair, scoring, settings, known_threshold)
    if earlier is not None:
        check_subjects(earlier, measurement.used, measurement.points)
    result = _measured(pair, measurement, scoring.name, average)
    return _write(result, None if earlier is None else Against.of(result, earlier), folder)


def _measured(
    pair: "Pair", measurement: Measurement, score: str, average: tuple[float, float, float]
) -> Benchmark:
    """All scenarios, and the machine before and after them; `average`: its load before the models."""
    config, gpu = pair.config, gpu_state(pair.device)
    measured = measurement.run(config.run.seed)
    environment = describe_environment(pair.device, config.run.seed)
    loads, states = (average, os.getloadavg()), (gpu, gpu_state(pair.device))
    return Benchmark(
        title=config.title or f"{pair.student.name} + {pair.teacher.name}",
        score=score,
        models=measurement.used,
        points=measurement.points,
        image_ids=tuple(pair.data.image_ids[index] for index in measurement.indices),
        seed=config.run.seed,
        seconds=measurement.settings.seconds,
        single=measured.single,
        offline=measured.offline,
        server=measured.server,
        stages=measured.stages,
        machine=Machine(environment["cpus"], loads, states, measured.beside),
        environment=environment,
        config=config.model_dump(mode="json"),
        joules=measured.joules,
    )


def _prepared(
    pair: "Pair", scoring: Scoring, settings: BenchmarkSettings, known_threshold: float | None
) -> Measurement:
    """The models, the sample and the thresholds on it."""
    popular = () if pair.popular is None else pair.popular.names
    weights = weights_of(pair.student)
    scoring = scoring.bind(pair.data.class_names, popular, pair.student.name, weights)
    check_answers(scoring, partial(pair.first_answers, pair.student), weights)
    models = {"student": scoring.adapted(pair.student), "teacher": pair.teacher}
    indices, pictures = sample_of(pair.data, settings.images, pair.config.run.seed)
    scores = scores_of(models["student"], scoring.score, pictures, settings.sizes[-1])
    known = scoring.section.threshold if known_threshold is None else known_threshold
    points = points_at(scores, settings.shares, known if settings.threshold is None else settings.threshold)
    if not points:
        raise ConfigError("Expected at least one deferral rate or a threshold, got none.")
    runtimes = {side: getattr(getattr(pair.config, side), "runtime", "eager") for side in models}
    used = {
        side: UsedModel(model.name, runtimes[side], halves(model) is not None)
        for side, model in models.items()
    }
    return Measurement(
        models, used, scoring.score, points, pair.data.load, indices, pictures, settings,
        joule_counter(pair.device),
    )  # fmt: skip


def _write(result: Benchmark, against: Against | None, folder: Path) -> BenchmarkResult:
    from ebjr_det.reporting.benchmark.figures import write_benchmark_figure

    writable_folder(folder)
    summary = summarize(result)
    summary |= {"against": None if against is None else against.to_dict(), "out": str(folder)}
    tables = benchmark_tables(result, summary, against)
    text = document(result.title, tables, sentences(result, against))
    write_text(folder / "benchmark.md", text)
    write_benchmark_figure(folder / "benchmark", result)
    write_text(folder / RESULT, result.to_json(summary))
    return BenchmarkResult(result, summary, against, folder)
