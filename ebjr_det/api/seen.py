"""Which pictures a router was fitted on, or eight bits were calibrated on, so that none is reported on."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ebjr_det.api.settings import calibrating_in
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import FloatArray, PairedRun
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import SAMPLE
from ebjr_det.io.notes import say
from ebjr_det.routing.drift import check_unseen, shared_images
from ebjr_det.tasks import load_task

if TYPE_CHECKING:
    from ebjr_det.inference.pair import Pair


def count_unseen(scoring: Scoring, pair: "Pair", *, answered: bool) -> int:
    """How many pictures of the data are not of the router's fit; all where none was fitted.

    Args:
        answered: the student may be asked, where a task knows pictures by its answers alone.

    Raises:
        InvalidInput: all pictures were in the fit.
    """
    if scoring.file is None:
        return len(pair.data)
    header, ids = scoring.file.header, tuple(pair.data.image_ids)
    fingerprints = pair.plugin.routing.fingerprints_ahead(pair.data)
    if fingerprints is not None:
        fitted_on = shared_images(header.image_ids, header.fingerprints, ids, fingerprints)
    elif answered:
        fitted_on = _known_by_answers(scoring, pair, ids)
    else:
        return len(pair.data)
    check_unseen(fitted_on, str(scoring.section.file))
    return int((~fitted_on).sum())


def _known_by_answers(scoring: Scoring, pair: "Pair", ids: tuple[str, ...]) -> NDArray[np.bool_]:
    """[ids] those of the fit, if a sample of these is answered as the fit has it."""
    from ebjr_det.inference.answers import answers_to

    assert scoring.file is not None
    header = scoring.file.header
    fitted = set(header.image_ids)
    same_id = np.array([image in fitted for image in ids], dtype=bool)
    sample = np.random.default_rng(pair.config.run.seed).permutation(np.flatnonzero(same_id))[:SAMPLE]
    indices, outputs = answers_to(
        scoring.adapted(pair.student), pair.data, sample.tolist(), pair.config.run.batch_size
    )
    fingerprints: FloatArray = np.concatenate(
        [np.zeros(0), *(scoring.scores(output)["random"] for output in outputs)]
    )
    image_ids = [ids[index] for index in indices]
    recognised = shared_images(header.image_ids, header.fingerprints, image_ids, fingerprints)
    return same_id if recognised.any() else np.zeros(len(ids), dtype=bool)


def uncalibrated(run: PairedRun, run_dir: Path) -> tuple[PairedRun, dict[str, dict[str, int]]]:
    """A run without the pictures that calibrated its networks in eight bits, and how many these are."""
    calibrating = calibrating_in(run_dir, run.image_ids)
    positions = np.flatnonzero([image not in calibrating for image in run.image_ids])
    if len(positions) == len(run):
        return run, {}
    count = len(run) - len(positions)
    say(f"Note: left out of the fit are {count:,} of {len(run):,} pictures, which calibrated eight bits.")
    left_out = {"eight bits": {"images of their calibration, left out": count}}
    return select(run, load_task(run.task).judge(), positions), left_out
