"""Several configured models at work on one set of images: built, run and timed, each on its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ebjr_det.config import EvaluateConfig
from ebjr_det.config.tiers import Tier, tiers_of, with_tiers
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.types import Indices, Model
from ebjr_det.inference.answers import on_pictures
from ebjr_det.inference.in_memory import Objects
from ebjr_det.inference.latency import Latency, measure_latency
from ebjr_det.inference.offline import Batch, TieredRecorder, run_pair
from ebjr_det.inference.pair import Pair, with_checksums
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.environment import device_name
from ebjr_det.io.records import TierStore
from ebjr_det.tasks.contract import DataSet


def pairs_of(config: EvaluateConfig) -> list[EvaluateConfig]:
    """By tier but the last, the configuration of the pair of it and the last one."""
    *lower, last = tiers_of(config)
    return [with_tiers(config, [tier, last]) for tier in lower]


@dataclass(frozen=True)
class Tiers:
    """The models of a configuration, and the images they are judged on.

    Attributes:
        config: with checksums and with the runtimes that were taken.
        pairs: by tier but the last, the pair of it and the last one.
    """

    config: EvaluateConfig
    pairs: Sequence[Pair]

    @classmethod
    def build(cls, config: EvaluateConfig, objects: Objects, fraction: float) -> "Tiers":
        """All that a configuration names; a fraction of the images chooses. Raises EbjrError for faults."""
        config = with_checksums(config)
        first, *upper = pairs_of(config)
        pair = Pair.build(first, objects, fraction)
        pairs = [pair, *map(pair.beside, upper)]
        lower = [Tier(pair.config.student, pair.config.router) for pair in pairs]
        built = cls(with_tiers(config, [*lower, Tier(pair.config.teacher)]), pairs)
        names = [model.name for model in built.models]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"Expected a name of its own for every tier, got `{repeated}` twice. Set `name`."
            )
        return built

    @property
    def data(self) -> DataSet:
        """The images of the set."""
        return self.pairs[0].data

    @property
    def device(self) -> str:
        """On which the models are run."""
        return self.pairs[0].device

    @property
    def models(self) -> list[Model]:
        """In the order of the tiers."""
        return [*(pair.student for pair in self.pairs), self.pairs[0].teacher]

    def adapted(self, scorings: Sequence[Scoring]) -> "Tiers":
        """The tiers as their scores look at them."""
        pairs = zip(self.pairs, scorings, strict=True)
        adapted = [replace(pair, student=scoring.adapted(pair.student)) for pair, scoring in pairs]
        return replace(self, pairs=adapted)

    def run(self, scorings: Sequence[Scoring], parts: TierStore) -> TieredRun:
        """Run every model on all images; continues from `parts`."""
        pair, seconds = self.pairs[0], self.config.run.flush_seconds
        batches = partial(pair.batches_after, between=self.models[1:-1])
        return run_pair(self.recorder(scorings), batches, len(pair.data), parts, flush_seconds=seconds)

    def recorder(self, scorings: Sequence[Scoring]) -> TieredRecorder:
        """What keeps the records of every model on batches."""
        models = {model.name: model for model in self.models}
        scores = {name: scoring.scores for name, scoring in zip(models, scorings, strict=False)}
        return TieredRecorder(models, self.pairs[0].task, scores)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches as `Pair.batches` makes them."""
        return self.pairs[0].batches(start, stop, self.models[1:-1])

    def measure(self, images: Indices) -> Mapping[str, Latency]:
        """Latency of every model alone, side by side on a seeded sample of some images, by its name."""
        pair, settings = self.pairs[0], self.pairs[0].config.latency
        size, generator = settings.batch_size, np.random.default_rng(pair.config.run.seed)
        sample = np.resize(generator.permutation(images), (settings.batches, size))
        return measure_latency(
            {model.name: on_pictures(model) for model in self.models},
            ([pair.data.load(int(index)) for index in batch] for batch in sample),
            batch_size=size,
            device=device_name(pair.device),
            warmup=settings.warmup,
        )
