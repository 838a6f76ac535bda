"""The calibration part of a set: it chooses routers, thresholds and ranges, and is not reported on."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.config import EvaluateConfig
from ebjr_det.config.sections import TargetSection
from ebjr_det.config.tiers import tiers_of
from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.split import calibration_size, split_ids
from ebjr_det.core.types import Model, Opaque, Output
from ebjr_det.inference.rates import DEFAULT_RATE
from ebjr_det.inference.router_file import load_router_file
from ebjr_det.io.loader import readable
from ebjr_det.routing.crossfit import LEAST_IMAGES
from ebjr_det.runtimes.choose import Calibration
from ebjr_det.runtimes.int8 import BY, MOST, recipe
from ebjr_det.runtimes.registry import EIGHT_BITS, Batch, Network
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import plain
from ebjr_det.tasks.contract import DataSet

FOLDS = 5
LEAST = FOLDS * LEAST_IMAGES
"""Pictures that a router is chosen on at least."""
FRACTION = 1 / 3
"""Of a run, on which a router is chosen where no target says another."""
BATCH = 8


@dataclass(frozen=True)
class CalibrationPart:
    """The pictures of a labelled set that a configuration keeps for choices.

    Attributes:
        fraction: of the pictures, that choose for several tiers at once; 0 where the settings say it.
        reported: a report on the others follows, so that the run has to split the same pictures.
    """

    config: EvaluateConfig
    data: DataSet
    fraction: float = 0
    reported: bool = False

    @cached_property
    def indices(self) -> list[int]:
        """Where the pictures are in the set; see `calibrating`."""
        return calibrating(self.config, self.data.image_ids, self.fraction)

    def check_apart(self, reported: Iterable[str]) -> None:
        """Raises InvalidInput where pictures that calibrate a network in eight bits are reported on."""
        check_apart(self.config, self.data.image_ids, reported, self.fraction)

    def _check_readable(self) -> None:
        """Raises InvalidInput for a picture that the run would leave out, and so split the others anew."""
        if not self.reported or not self.data.skip_unreadable or self.config.router.file is not None:
            return
        for index in tqdm(range(len(self.data)), "pictures", dynamic_ncols=True):
            try:
                self.data.load(index)
            except InvalidInput as error:
                raise InvalidInput(
                    "Expected pictures that can all be read, so that none calibrates eight bits and is "
                    f"reported on, got: {first_line(error)} Take it out of the data, or a runtime in float."
                ) from error

    def of(self, model: Model) -> Calibration:
        """The part for one model in eight bits."""
        judged = self.config.labelled
        quality_name = load_task(self.config.task).judge().quality_name
        return Calibration(
            lambda: self._batch(model),
            (lambda network: self._quality(model, network)) if judged else None,
            quality_name,
            self.config.run.int8_loss,
        )

    def digest(self) -> str:
        """A digest of the pictures that networks in eight bits are calibrated on."""
        digest = sha256()
        for picture in readable(self.data, self._drawn()):
            pixels = np.asarray(picture)
            digest.update(str(pixels.shape).encode() + pixels.tobytes())
        return digest.hexdigest()

    def _drawn(self) -> list[int]:
        """Where the pictures are whose values a network's ranges are taken from, drawn with the seed."""
        drawn: list[int] = np.random.default_rng(self.config.run.seed).permutation(self.indices).tolist()
        return drawn[:MOST]

    def _batch(self, model: Model) -> Batch:
        """Pictures as a model's network takes them."""
        self._check_readable()
        inputs = [entry for entry, _ in self._inputs(model, self._drawn())]
        batch: Batch = plain(model).batch(inputs)
        return batch

    def _inputs(self, model: Model, indices: Iterable[int]) -> Iterator[tuple[Opaque, Opaque]]:
        """Inputs with their targets; a picture that cannot be read is left out, to be named in its turn."""
        for index in indices:
            try:
                yield model.preprocess(self.data.load(index)), self.data.target(index)
            except InvalidInput:
                continue

    def _quality(self, model: Model, network: Network) -> float:
        """A model's quality on the part where its network is run so."""
        task = load_task(self.config.task).judge()
        predictions: list[Opaque] = []
        targets: list[Opaque] = []
        with self.run_by(model, network):
            for output, truths in self.answers(model):
                predictions += output.predictions
                targets += truths
        return task.metrics(task.match(predictions, targets))[task.quality_name]

    @contextmanager
    def run_by(self, model: Model, network: Network) -> Iterator[None]:
        """Within, a network runs the model."""
        inner = plain(model)
        earlier, inner.run = inner.run, network
        try:
            yield
        finally:
            inner.run = earlier

    def answers(self, model: Model) -> Iterator[tuple[Output, Sequence[Opaque]]]:
        """A model's answers to the part, batch by batch, with what they are judged by."""
        rows = self._inputs(model, tqdm(self.indices, model.name, dynamic_ncols=True))
        while batch := list(islice(rows, BATCH)):
            inputs, truths = zip(*batch, strict=True)
            yield model(inputs), truths


def calibrating(config: EvaluateConfig, image_ids: Sequence[str], fraction: float = 0) -> list[int]:
    """Where the pictures that calibrate are: those of the router's fit, else those that the target is met on.

    Args:
        fraction: see `CalibrationPart`.

    Raises:
        ConfigError: a configuration that reports on all pictures.
    """
    router, seed, ids = config.router, config.run.seed, list(image_ids)
    fitted = set[str]()
    if router.file is not None:
        fitted = {*load_router_file(config.task, router)[0].header.image_ids}
    if shared := [index for index, image in enumerate(ids) if image in fitted]:
        return shared
    if fraction:
        return list(map(int, split_ids(ids, fraction, seed)[0]))
    target = router.target
    if router.automatic and target is None and calibration_size(len(ids), FRACTION) >= LEAST:
        target = TargetSection("deferral_rate", DEFAULT_RATE, fraction=FRACTION)
    if target is None:
        raise ConfigError(
            "Expected a calibration part for a network in eight bits, got settings that report on all "
            "pictures. Set `router.target`."
        )
    part = split_ids(ids, target.fraction, seed)[0]
    if router.automatic and target.confidence is not None:  # the other half certifies
        part = part[split_ids([ids[index] for index in part], 0.5, seed)[0]]
    return [int(index) for index in part]


def in_eight_bits(config: EvaluateConfig) -> list[str]:
    """The runtimes in eight bits that a configuration names."""
    return sorted({tier.section.runtime for tier in tiers_of(config)}.intersection(EIGHT_BITS))


def eight_bits_of(parts: Iterable[CalibrationPart]) -> dict[str, object]:
    """What makes networks in eight bits of those in float, as plain values; nothing where none is in them.

    Records and answers of two networks that differ in it cannot be mixed.

    Args:
        parts: of each pair.
    """
    runtimes, digests = set[str](), list[str]()
    for part in parts:
        if in_part := in_eight_bits(part.config):
            runtimes.update(in_part)
            digests.append(part.digest())
    if not runtimes:
        return {}
    recipes = {runtime: recipe(BY[runtime]) for runtime in sorted(runtimes)}
    return {"calibration": " ".join(digests), "eight bits": recipes}


def calibrating_ids(config: EvaluateConfig, image_ids: Sequence[str], fraction: float = 0) -> set[str]:
    """The pictures that calibrate networks in eight bits; none where all are in float."""
    if not in_eight_bits(config):
        return set()
    return {image_ids[index] for index in calibrating(config, image_ids, fraction)}


def check_apart(
    config: EvaluateConfig, image_ids: Sequence[str], reported: Iterable[str], fraction: float = 0
) -> None:
    """Raises InvalidInput where pictures that calibrate a network in eight bits are reported on."""
    if shared := calibrating_ids(config, image_ids, fraction).intersection(reported):
        raise InvalidInput(
            "Expected a report on pictures that calibrate no network in eight bits, got "
            f"{len(shared)} that do: another seed, fraction or set splits them otherwise, and so do pictures "
            "left out, unreadable or of a router's fit. Take those of the run, or a runtime in float."
        )
