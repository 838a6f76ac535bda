"""A PairedRun on disk: one `.npz` without pickles, or the parts of a run that is still going.

Knows nothing about what the match columns mean. Every file appears whole or not at all, so a run that is
killed at any moment continues from its last part.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.types import Array, PairedRun, concatenate
from ebjr_det.io.files import atomic_write, writable_folder

VERSION = 1
GROUPS = ("scores", "student", "teacher")
OTHERS = "others"
OPTIONAL = {"features": "features", "abstains": "abstentions"}
"""Columns that a run may lack, and what messages call them."""
ESTIMATED = "estimated"
Part = TypeVar("Part", PairedRun, TieredRun)


def save_run(run: PairedRun, path: Path) -> None:
    """Write the run as `path` (.npz): `task`, `image_ids` and the columns as `group/column`.

    Columns of further models are `others/model/column`; the student's features, where there are any,
    `features`, where it abstains `abstains`, and `estimated` for records that no label judged.
    """
    arrays: dict[str, Array] = {
        "version": np.array(VERSION),
        "task": np.array(run.task),
        "image_ids": np.array(run.image_ids, dtype=np.str_),
    }
    groups = {group: getattr(run, group) for group in GROUPS}
    groups |= {f"{OTHERS}/{model}": records for model, records in run.others.items()}
    arrays |= {
        f"{group}/{name}": column for group, columns in groups.items() for name, column in columns.items()
    }
    arrays |= {name: column for name in OPTIONAL if (column := getattr(run, name)) is not None}
    if run.estimated:
        arrays[ESTIMATED] = np.array(True)
    with atomic_write(path) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]


def load_run(path: Path) -> PairedRun:
    """Read what `save_run` wrote. Raises InvalidInput for a missing, foreign or damaged file."""
    arrays = read_npz(path, "a saved run")
    try:
        if int(arrays["version"]) != VERSION:
            raise InvalidInput(
                f"Expected version {VERSION} in `{path}`, got {arrays['version']}. "
                "Evaluate again with this version."
            )
        groups: dict[str, dict[str, Array]] = {group: {} for group in GROUPS}
        singles: dict[str, dict[str, Array]] = {}
        for key, column in arrays.items():
            group, _, name = key.partition("/")
            if group == OTHERS:
                model, _, name = name.partition("/")
                if not name:
                    raise ValueError(f"`{key}`, the column of no model")
                singles.setdefault(model, {})[name] = column
            elif name:
                groups[group][name] = column
        ids = tuple(str(i) for i in arrays["image_ids"])
        optional = {name: arrays.get(name) for name in OPTIONAL}
        run = PairedRun(str(arrays["task"]), ids, **groups, others=singles, **optional)  # type: ignore[arg-type]
        return replace(run, estimated=True) if arrays.get(ESTIMATED, False) else run
    except KeyError as error:
        raise InvalidInput(f"Expected a saved run in `{path}`, got a file without {error}.") from error
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"Expected a saved run in `{path}`, got: {first_line(error)}.") from error


def save_tiers(run: TieredRun, path: Path) -> None:
    """Write a run of several tiers as `path` (.npz): `tiers` in order, and columns by a tier's rank.

    They are `records/RANK/column` and, of each tier but the last, `scores/RANK/name`.
    """
    arrays: dict[str, Array] = {"version": np.array(VERSION), "task": np.array(run.task)}
    arrays |= {"image_ids": np.array(run.image_ids, dtype=np.str_), "tiers": np.array(run.names, np.str_)}
    for group, tiers in (("records", run.records), ("scores", run.scores)):
        for rank, tier in enumerate(run.names):
            columns = tiers.get(tier, {})
            arrays |= {f"{group}/{rank}/{name}": column for name, column in columns.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]


def load_tiers(path: Path) -> TieredRun:
    """Read what `save_tiers` wrote. Raises InvalidInput for a missing, foreign or damaged file."""
    arrays = read_npz(path, "a saved run of tiers")
    try:
        names = tuple(map(str, arrays["tiers"]))
        groups: dict[str, dict[str, dict[str, Array]]] = {"records": {}, "scores": {}}
        for rank, tier in enumerate(names):
            for group, tiers in groups.items():
                head = f"{group}/{rank}/"
                columns = {key.removeprefix(head): arrays[key] for key in arrays if key.startswith(head)}
                tiers |= {tier: columns} if columns else {}
        ids = tuple(map(str, arrays["image_ids"]))
        return TieredRun(str(arrays["task"]), ids, groups["records"], groups["scores"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"Expected a saved run of tiers in `{path}`, got: {first_line(error)}.") from error


def read_npz(path: Path, noun: str) -> Mapping[str, Array]:
    """All arrays of an `.npz`, never unpickling. Raises InvalidInput with the path and the reason."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array (.npy)")
        with archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # a damaged archive can raise anything
        raise InvalidInput(f"Expected {noun} (.npz) at `{path}`, got: {first_line(error)}.") from error


def join_runs(parts: Sequence[PairedRun]) -> PairedRun:
    """Several runs of one pair as one, in order. Raises InvalidInput where they hold other columns."""
    ids = tuple(image for part in parts for image in part.image_ids)
    columns = {group: concatenate([getattr(p, group) for p in parts]) for group in GROUPS}
    models = parts[0].others.keys()
    if any(part.others.keys() != models for part in parts):
        raise InvalidInput("Expected the same further models in all parts of a run, got others.")
    singles = {model: concatenate([part.others[model] for part in parts]) for model in models}
    if len({part.estimated for part in parts}) > 1:
        raise InvalidInput("Expected labels for all parts of a run or for none, got them for some.")
    optional = {name: _optional([getattr(part, name) for part in parts], name) for name in OPTIONAL}
    run = PairedRun(parts[0].task, ids, **columns, others=singles, **optional)  # type: ignore[arg-type]
    return replace(run, estimated=parts[0].estimated)


def _optional(columns: Sequence[Array | None], name: str) -> Array | None:
    present = [column for column in columns if column is not None]
    if not present:
        return None
    if len(present) != len(columns) or len({column.shape[1:] for column in present}) > 1:
        raise InvalidInput(
            f"Expected the same {OPTIONAL[name]} of the student in all parts of a run, got others. "
            "Evaluate again."
        )
    return np.concatenate(present)


def join_tiers(parts: Sequence[TieredRun]) -> TieredRun:
    """Several runs of the same tiers as one, in order. Raises InvalidInput where they hold other columns."""
    if len({part.names for part in parts}) > 1:
        raise InvalidInput("Expected the same tiers in all parts of a run, got others. Evaluate again.")
    ids = tuple(image for part in parts for image in part.image_ids)
    records = {name: concatenate([part.records[name] for part in parts]) for name in parts[0].records}
    scores = {name: concatenate([part.scores[name] for part in parts]) for name in parts[0].scores}
    return TieredRun(parts[0].task, ids, records, scores)


class Parts(ABC, Generic[Part]):
    """The finished parts of a run in progress, as numbered files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    @abstractmethod
    def save_part(run: Part, path: Path) -> None:
        """Write a part, or the whole run, as a file."""

    @staticmethod
    @abstractmethod
    def load_part(path: Path) -> Part:
        """What `save_part` wrote."""

    @staticmethod
    @abstractmethod
    def join(parts: Sequence[Part]) -> Part:
        """Parts as one, in order."""

    def load(self) -> list[Part]:
        """The parts so far, in order."""
        return [self.load_part(path) for path in self._paths()]

    def add(self, part: Part) -> None:
        """Append a part."""
        writable_folder(self.folder)
        self.save_part(part, self.folder / f"{len(self._paths()):06d}.npz")

    def clear(self) -> None:
        """Remove the parts once the joined run is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.npz"))


class PartStore(Parts[PairedRun]):
    """Parts of a run of a student and a teacher."""

    save_part, load_part, join = staticmethod(save_run), staticmethod(load_run), staticmethod(join_runs)


class TierStore(Parts[TieredRun]):
    """Parts of a run of several tiers."""

    save_part, load_part, join = staticmethod(save_tiers), staticmethod(load_tiers), staticmethod(join_tiers)
