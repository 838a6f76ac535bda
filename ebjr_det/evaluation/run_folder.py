"""The run folder: opened for a run, taken up again, and trusted as the source of a calibration.

A folder holds one run of one pair. Whatever is in it stays until something whole can take its place; its
summary is there only beside the records that it sums up.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

import numpy as np

from ebjr_det.config import (
    BaseSection,
    EvaluateConfig,
    LearnConfig,
    RouterSection,
    dump_config,
    identity,
    training_identity,
)
from ebjr_det.config.tiers import tiers_of, with_tiers
from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, first_line
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.tradeoff import score_of, select
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.analysis import Analysis, Profile
from ebjr_det.evaluation.judged import check_judged
from ebjr_det.evaluation.single_models import single_models
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import WEIGHTS
from ebjr_det.io.files import check_writable, existing_file, to_json, writable_folder, write_text
from ebjr_det.io.loader import Images
from ebjr_det.io.records import Part, Parts, PartStore, TierStore, load_run
from ebjr_det.runtimes.choose import AUTO
from ebjr_det.tasks import load_task
from ebjr_det.tasks.settings import load_config

Settings = TypeVar("Settings", bound=LearnConfig)

SUMMARY = "summary.json"
RUN = "run.npz"
ANALYSIS = "analysis.json"
TIERED_RUN, TIERS = "tiers.npz", "tiers.json"
"""Files of a replay of several tiers, in place of the two above."""
ROUTER = "router.safetensors"
"""File of a run: the router that was chosen on its calibration part."""
CONFIG = "config.yaml"
REPLAY = b"replay:"
"""What this file begins with in the folder of a replay."""
ENVIRONMENT = "environment.json"
GALLERY = "gallery"
PARTS = "parts"
SHARDS = "shards"
"""Folder of what several workers have recorded so far, in place of parts."""


def open_folder(out: Path, config: EvaluateConfig, resume: bool) -> None:
    """A new run folder, or with `resume` one whose records another such run would repeat."""
    if not _begun(out, config, resume):
        _check_same(identity(load_config(out / CONFIG)), identity(config), f"run that `{out}` holds")


def _check_same(saved: Mapping[str, object], current: Mapping[str, object], holder: str) -> None:
    """Raises ConfigError, which names the first setting that is another than it was."""
    changed = next((key for key in {**saved, **current} if saved.get(key) != current.get(key)), None)
    if changed is not None:
        raise ConfigError(
            f"Expected `{changed}` as in the {holder}, {saved.get(changed)}, got {current.get(changed)}. "
            "Choose another --out."
        )


def as_begun(config: EvaluateConfig, out: Path) -> EvaluateConfig:
    """The configuration with the runtimes that the run in a folder has chosen, where it leaves them open."""
    if not (out / CONFIG).is_file():
        return config
    chosen = [tier.section.runtime for tier in tiers_of(load_config(out / CONFIG))]
    tiers = tiers_of(config)
    if all(tier.section.runtime != AUTO for tier in tiers) or len(tiers) != len(chosen):
        return config
    sections = (
        section.model_copy(update={"runtime": runtime}) if section.runtime == AUTO else section
        for (section, _), runtime in zip(tiers, chosen, strict=True)
    )
    return with_tiers(config, [tier._replace(section=s) for tier, s in zip(tiers, sections, strict=True)])


def open_training(out: Path, config: Settings, resume: bool, load: Callable[[Path], Settings]) -> None:
    """A new folder for a training, or with `resume` that of one to the same weights; it tells these settings.

    Args:
        load: reads the settings that the folder holds.
    """
    if not _begun(out, config, resume):
        saved = training_identity(load(out / CONFIG))
        _check_same(saved, training_identity(config), f"training that `{out}` holds")
        write_text(out / CONFIG, dump_config(config))


def _begun(out: Path, config: BaseSection, resume: bool) -> bool:
    """Whether the folder was empty, and now has the settings; False where it holds a run to go on with."""
    check_folder(out, resume)
    path = writable_folder(out) / CONFIG
    if path.is_file():
        return False
    write_text(path, dump_config(config))
    return True


def check_folder(out: Path, resume: bool) -> None:
    """Raises EbjrError where no run can go to a folder, or go on in it; leaves nothing behind."""
    check_writable(out)
    if (out / CONFIG).is_file():
        if not resume:
            raise ConfigError(
                f"Expected an empty --out, got a run in `{out}`. Add --resume to go on with it."
            )
    elif out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise ConfigError(f"Expected an empty --out, got files in `{out}`.")


def finished_run(
    out: Path,
    images: Images,
    score: str,
    eight_bits: Mapping[str, object],
    start: Callable[[PartStore], PairedRun],
) -> PairedRun:
    """The folder's run: loaded where it is complete, else gone on with by `start` and saved.

    Pictures that could not be read are not in it; where that is an error, all are.

    Args:
        score: the one that decides.
        eight_bits: what its networks in eight bits are made of.

    Raises:
        InvalidInput: the folder holds a run of other images, annotations or eight bits, or of an earlier
            version.
        ConfigError: it holds one without that score.
    """

    def check(part: PairedRun) -> None:
        score_of(part, score)

    return _finished(out / RUN, images, PartStore(out / PARTS), eight_bits, start, check)


def finished_tiers(
    out: Path,
    images: Images,
    eight_bits: Mapping[str, object],
    start: Callable[[TierStore], TieredRun],
) -> TieredRun:
    """The folder's run of several tiers; see `finished_run`."""
    store = TierStore(out / PARTS)
    return _finished(out / TIERED_RUN, images, store, eight_bits, start, lambda part: None)


def _finished(
    path: Path,
    images: Images,
    store: Parts[Part],
    eight_bits: Mapping[str, object],
    start: Callable[[Any], Part],
    check: Callable[[Part], None],
) -> Part:
    out, complete = path.parent, path.is_file()
    parts = [store.load_part(path)] if complete else store.load()
    for part in parts[:1]:
        check(part)
    seen = tuple(image for part in parts for image in part.image_ids)
    expected = tuple(images.image_ids) if complete else tuple(images.image_ids)[: len(seen)]
    if images.skip_unreadable:
        readable = set(seen)
        expected = tuple(image for image in images.image_ids if image in readable)
    if seen != expected:
        raise InvalidInput(
            f"Expected the images that the run in `{out}` has seen, got others. Choose another --out."
        )
    check_judged(out, images, eight_bits, begun=bool(parts) or (out / SHARDS).is_dir())
    run = parts[0] if complete else start(store)
    if not complete:
        store.save_part(run, path)
    store.clear()
    return run


def clear_replay_folder(out: Path) -> None:
    """A replay replaces an earlier replay, which its inputs can make again, and nothing else."""
    check_replay_folder(out)
    writable_folder(out)
    for name in (SUMMARY, ANALYSIS, TIERS, f"{GALLERY}.json"):
        (out / name).unlink(missing_ok=True)
    rmtree(out / GALLERY, ignore_errors=True)


def check_replay_folder(out: Path) -> None:
    """Raises EbjrError where a replay may not be written: a folder of other files, or no folder at all."""
    if out.exists():
        writable_folder(out)
        replayed = (out / CONFIG).is_file() and (out / CONFIG).read_bytes().startswith(REPLAY)
        if any(out.iterdir()) and not replayed:
            raise ConfigError(f"Expected an empty --out or an earlier replay, got other files in `{out}`.")
    check_writable(out)


def save_analysis(out: Path, analysis: Analysis, settings: str, environment: Mapping[str, object]) -> None:
    """Replace an earlier analysis as a whole: it is there only beside the settings that it comes from."""
    for name in (SUMMARY, ANALYSIS):
        (out / name).unlink(missing_ok=True)
    if analysis.selection is None:
        (out / ROUTER).unlink(missing_ok=True)
    write_text(out / CONFIG, settings)
    write_text(out / ENVIRONMENT, to_json(environment))
    write_text(out / ANALYSIS, analysis.to_json())


def load_folder(folder: Path) -> tuple[PairedRun, Analysis]:
    """A finished run with its analysis, tried out before anything relies on it."""
    analysis = load_analysis(folder)
    run = load_run(folder / RUN)
    if analysis.selection is not None:
        run = _routed(folder, run, analysis)
    try:
        score = score_of(run, analysis.score)
        task = load_task(run.task).judge()
        if len(task.mixtures(run.student, run.teacher).reward()) != len(score):
            raise ValueError("records of another number of images")
        single_models(run, task, analysis)
    except EbjrError:
        raise
    except Exception as error:  # an edited or damaged file can raise anything
        raise InvalidInput(f"Expected a whole run in `{folder}`, got: {first_line(error)}.") from error
    return run, analysis


def _routed(folder: Path, run: PairedRun, analysis: Analysis) -> PairedRun:
    """The images that a chosen router has not seen, as it sees them; records are as the student answered."""
    assert analysis.router is not None
    section = RouterSection(file=str(folder / ROUTER), sha256=analysis.router.sha256)
    scoring = Scoring.load(run.task, section).bind(analysis.class_names, analysis.popular)
    calibration = set(analysis.router.left_out)
    reported = np.flatnonzero([image not in calibration for image in run.image_ids])
    return scoring.routed(select(run, load_task(run.task).judge(), reported))


def load_analysis(folder: Path) -> Analysis:
    """How a finished run is looked at. Raises InvalidInput where there is none, or a damaged one."""
    if (folder / TIERS).is_file():
        raise InvalidInput(
            f"Expected a run of a student and a teacher in `{folder}`, got one of several tiers, which "
            "`report` and `calibrate` take."
        )
    path = existing_file(folder / ANALYSIS, "a finished run folder with its analysis")
    try:
        return Analysis.from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"Expected an analysis in `{path}`, got: {first_line(error)}.") from error


def check_same_pair(first: Analysis, second: Analysis) -> None:
    """Raises InvalidInput where two runs are of different models or score options."""
    for part, value, other_value in (
        ("score options", first.score_options, second.score_options),
        ("router", _router_of(first), _router_of(second)),
        ("student", *_names(first.student, second.student)),
        ("teacher", *_names(first.teacher, second.teacher)),
        ("student's weights", *_weights(first.student, second.student)),
        ("teacher's weights", *_weights(first.teacher, second.teacher)),
        ("student's MACs", first.cost.student_macs, second.cost.student_macs),
        ("teacher's MACs", first.cost.teacher_macs, second.cost.teacher_macs),
    ):
        if value != other_value:
            raise InvalidInput(
                f"Expected two runs of one pair, got {value} and {other_value} as their {part}."
            )


def _names(first: Profile, second: Profile) -> tuple[str, str]:
    """The names of both, where both tell the model: files of one model differ by what it saw."""
    return ("", "") if first.of_file or second.of_file else (first.name, second.name)


def _weights(first: Profile, second: Profile) -> tuple[str, str]:
    """The digests of both, where both are known."""
    digests = [str(profile.extras.get(WEIGHTS, ""))[:12] for profile in (first, second)]
    return (digests[0], digests[1]) if all(digests) else ("", "")


def _router_of(analysis: Analysis) -> str:
    return "none" if analysis.router is None else f"the one with sha256 {analysis.router.sha256[:12]}"
