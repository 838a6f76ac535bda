"""`fit-router front`: a tiny network that decides on the picture itself, before the student has seen it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.api.fit_settings import check_places
from ebjr_det.api.settings import load_settings, to_config
from ebjr_det.config import EvaluateConfig, ScheduleSection
from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.ranking import correlation
from ebjr_det.core.tradeoff import score_of, select
from ebjr_det.core.types import FloatArray, PairedRun
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.run_folder import RUN, load_folder
from ebjr_det.inference.student import WEIGHTS
from ebjr_det.io.files import writable_folder
from ebjr_det.io.records import load_run
from ebjr_det.reporting.overview import Overview, PrintedResult
from ebjr_det.reporting.table import Table
from ebjr_det.routing.file import FRONT, RouterFile, RouterHeader
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import DataSet

if TYPE_CHECKING:
    from ebjr_det.tasks.front import FrontRouter

ARCH, SIZE = "test_byobnet", 64
LEAST_IMAGES = 40
WATCHING = 0.1
"""Share of the pictures of a fit that only choose which weights are taken."""
BATCH = 64


@dataclass(frozen=True)
class FrontSettings:
    """How a router in front of the student is fitted.

    Attributes:
        arch: a network of timm, with fresh weights; `size`: side of the small copy of a picture in pixels.
        epochs: rounds over the pictures; `device`: where the network is trained.
        fraction: of the run's pictures that it is fitted on, drawn with the seed; the others stay unseen, so
            that `placement` can judge it on the same run. 1 takes all, for a run that is there for the fit.
    """

    arch: str = ARCH
    size: int = SIZE
    epochs: int = 40
    fraction: float = 0.5
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, repr=False)
class FrontResult(PrintedResult):
    """A router in front of the student, what its fit found, and its file."""

    file: RouterFile
    path: Path

    @property
    def evidence(self) -> dict[str, Any]:
        """How well gains are predicted on the pictures that chose the weights."""
        return dict(self.file.header.evidence)

    def overview(self) -> Overview:
        """How well it predicts, beside the student's own score."""
        evidence = self.evidence
        sentence = (
            f"Fitted on {evidence['images']:,} pictures; on {evidence['watching']:,} others that chose the "
            f"weights it predicts what the teacher adds with a correlation of {evidence['correlation']:.2f}, "
            f"the student's own {evidence['score']} with {evidence['score_correlation']:.2f}."
        )
        rows = [["in front", FRONT, f"{evidence['correlation']:.3f}"]]
        rows += [["behind the student", evidence["score"], f"{evidence['score_correlation']:.3f}"]]
        return Overview(
            sentence, Table("", ["", "score", "correlation with the gain"], rows, labels=2), self.path
        )


DEFAULTS = FrontSettings()


class OpenedRun(NamedTuple):
    """A finished run with its settings and its pictures.

    Attributes:
        run: all of its images, as the student answered.
        routed: those that its router has not seen, as that one sees them.
        data: its pictures; `indices`: [N] of the run's images in `data`.
    """

    run: PairedRun
    routed: PairedRun
    analysis: Analysis
    config: EvaluateConfig
    data: DataSet
    indices: Sequence[int]


def open_run(run_dir: Path) -> OpenedRun:
    """A finished run whose pictures can be opened again. Raises EbjrError where it is none."""
    routed, analysis = load_folder(run_dir)
    config = to_config(load_settings(run_dir)[0])
    data = load_task(config.task).data.build_data(**dict(config.data))
    run, numbers = load_run(run_dir / RUN), {image: index for index, image in enumerate(data.image_ids)}
    if absent := [image for image in run.image_ids if image not in numbers]:
        raise InvalidInput(
            f"Expected the pictures of the run in `{run_dir}`, got {len(absent)} of {len(run)} no more, "
            f"`{absent[0]}` for one. Put its data back, or evaluate anew."
        )
    return OpenedRun(run, routed, analysis, config, data, [numbers[image] for image in run.image_ids])


def weights_in(analysis: Analysis, side: str) -> str:
    """The digest of a model's weights that a run has kept, or an empty text."""
    return str(getattr(analysis, side).extras.get(WEIGHTS, ""))


def small_copies(router: "FrontRouter", opened: OpenedRun, images: Sequence[int]) -> list[Any]:
    """Small copies of some of a run's images. Raises InvalidInput for one that cannot be read."""
    bar = tqdm(images, unit="img", desc="small copies")
    return [router.preprocess(opened.data.load(opened.indices[image])) for image in bar]


def fit_front(run_dir: str | Path, out: str | Path, settings: FrontSettings = DEFAULTS) -> FrontResult:
    """Train a tiny network that predicts, from a small copy of a picture, what the teacher's answer adds.

    What it learns are the exact rewards of the run's records, those that a fitted router behind the student
    is judged by. The file is bound to both models, and tells which pictures the fit has seen.

    Args:
        run_dir: the folder of a finished `evaluate` whose pictures can be opened again.
        out: the router's file, `.safetensors`.

    Raises:
        InvalidInput: a replay, a run of pictures in memory or that are gone, too few pictures, or none on
            which the models differ.
        ConfigError: a network, size, fraction or number of rounds that cannot be.

    Example:
        >>> from ebjr_det import FrontSettings, fit_front
        >>> result = fit_front("runs/digits", "front.safetensors", FrontSettings(size=16, epochs=1))
        >>> result.path.is_file(), result.file.header.score
        (True, 'front')
    """
    from ebjr_det.tasks.front import FrontRouter, build_network

    path = Path(out)
    check_places(path, None)
    check_seed(settings.seed)
    if settings.epochs < 1:
        raise ConfigError(f"Expected at least one epoch, got {settings.epochs}.")
    network = build_network(settings.arch, settings.size, settings.seed)
    router = FrontRouter(network, settings.size, settings.device)
    opened = open_run(Path(run_dir))
    images = _fitted_on(opened.run, settings)
    task = load_task(opened.run.task).judge()
    rewards = task.mixtures(opened.run.student, opened.run.teacher).reward()[images]
    small = np.stack(small_copies(router, opened, images.tolist()))
    watching = round(WATCHING * len(images))
    _train(router, small, rewards, watching, settings)
    writable_folder(path.parent)
    file = _file_of(router, opened, images, small[-watching:], rewards[-watching:], settings)
    file.save(path)
    return FrontResult(file, path)


def _fitted_on(run: PairedRun, settings: FrontSettings) -> Any:
    """Indices of the run's images that are fitted on, in a random order."""
    everything = np.arange(len(run))
    images = everything if settings.fraction == 1 else split(run, settings.fraction, settings.seed)[0]
    if len(images) < LEAST_IMAGES:
        raise InvalidInput(
            f"Expected at least {LEAST_IMAGES} pictures to fit a front router on, got {len(images)}. "
            "Evaluate more of them."
        )
    return np.random.default_rng(settings.seed).permutation(images)


def _train(
    router: "FrontRouter", small: Any, rewards: FloatArray, watching: int, settings: FrontSettings
) -> None:
    """Train the router's network in place; at its end the weights predict best on the last pictures."""
    from ebjr_det.tasks.front import front_learner
    from ebjr_det.training.loop import Trainer
    from ebjr_det.training.ranks import Ranks

    learner = front_learner(router.network, small, rewards, watching, settings.seed)
    steps = max(1, settings.epochs * learner.count // BATCH)
    plan = ScheduleSection(
        steps=steps, batch_size=BATCH, lr=2e-3, weight_decay=0.05, warmup_steps=min(100, steps // 10),
        validate_every=max(1, steps // 10), save_every=steps, ema_decay=0.995, seed=settings.seed,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        trainer = Trainer(learner, plan, Path(folder), Ranks(0, 1, settings.device))
        trainer.run()
    router.network.load_state_dict(trainer.best["weights"])
    router.network.eval()


def _file_of(
    router: "FrontRouter", opened: OpenedRun, images: Any, small: Any, rewards: FloatArray,
    settings: FrontSettings,
) -> RouterFile:  # fmt: skip
    """The router as a file; `small` and `rewards` are of the pictures that chose the weights."""
    run, analysis, routing = opened.run, opened.analysis, load_task(opened.run.task).routing
    scores, behind = router.scores(list(small)), score_of(run, analysis.score)[images[-len(small) :]]
    evidence = {
        "images": len(images) - len(small),
        "watching": len(small),
        "correlation": correlation(scores, rewards),
        "score": analysis.score,
        "score_correlation": correlation(behind, rewards),
        "settings": asdict(settings),
    }
    fitted = select(run, load_task(run.task).judge(), np.sort(images))
    header = RouterHeader(
        task=run.task,
        score=FRONT,
        rescaling="none",
        classes=len(analysis.class_names),
        class_names=analysis.class_names,
        student=analysis.student.name,
        teacher=analysis.teacher.name,
        image_ids=fitted.image_ids,
        fingerprints=tuple(routing.fingerprints(fitted).tolist()),
        settings={"arch": settings.arch, "size": settings.size},
        evidence=evidence,
        popular=analysis.popular,
        student_weights=weights_in(analysis, "student"),
        teacher_weights=weights_in(analysis, "teacher"),
    )
    return RouterFile(header, scores, routing.student_numbers(run), router.to_arrays())
