"""Ids of COCO files, compared as pycocotools compares them: 7 and 7.0 are one id, texts are ids too.

Beyond it the text "7" is the number 7 where the other file has numbers, and in results a text that is no id
may name a picture by its file, as Ultralytics' tools write it.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from reprlib import repr as shown
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.memory import Source

Id: TypeAlias = int | str
Entry: TypeAlias = dict[str, object]
"""An object of a JSON file, whatever it holds."""
MISSING = -1
DIGITS = 4000  # of an id at most: Python reads no longer number


def id_of(value: object) -> Id | None:
    """An id as it is kept, or None for what is none.

    >>> id_of(7.0), id_of("a"), id_of(True), id_of(7.5)
    (7, 'a', None, None)
    """
    if type(value) is float:
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def distinct(entries: Sequence[Entry], kind: str, path: Source) -> tuple[tuple[Id, ...], dict[Id, Entry]]:
    """The ids, ascending, and the entries by id; texts ascend as texts, which is pycocotools' order.

    Raises:
        InvalidInput: an entry without an id, one that is there twice, or numbers beside texts.
    """
    by_id: dict[Id, Entry] = {}
    for entry in entries:
        key = id_of(entry.get("id"))
        if key is None:
            raise InvalidInput(
                f"Expected every {kind} in `{path}` to have a whole number or a text as id, "
                f"got {shown(entry.get('id'))}."
            )
        if key in by_id:
            raise InvalidInput(f"Expected distinct {kind} ids in `{path}`, got {shown(key)} more than once.")
        by_id[key] = entry
    texts = sum(type(key) is str for key in by_id)
    if texts not in (0, len(by_id)):
        rare = next(key for key in by_id if (type(key) is str) == (2 * texts < len(by_id)))
        raise InvalidInput(
            f"Expected every {kind} in `{path}` to have a number as id, or every one a text, "
            f"got {shown(rare)} among others."
        )
    return tuple(sorted(by_id)), by_id


def numbered(ids: Sequence[Id], kind: str, path: Source) -> tuple[int, ...]:
    """Ids of texts as the numbers that they are, in their order. Raises InvalidInput for other texts."""
    for key in ids:
        if type(key) is str and not (len(key) <= DIGITS and re.fullmatch("0|[1-9][0-9]*", key)):
            raise InvalidInput(
                f"Expected every {kind} in `{path}` to have a whole number as id, got {shown(key)}."
            )
    return tuple(map(int, ids))


def positions(
    entries: Sequence[Entry],
    key: str,
    ids: Sequence[Id],
    path: Source,
    file_names: Sequence[str] = (),
) -> tuple[NDArray[np.intp], int]:
    """[n] the position among `ids` of what each entry has under `key`, -1 of an unknown one.

    Args:
        file_names: of each id; a text that is no id may name one by its file.

    Returns:
        also how many are known by their file.

    Raises:
        InvalidInput: an entry that has no id there.
    """
    values = [entry.get(key) for entry in entries]
    position_of: dict[object, int] = {key: index for index, key in enumerate(ids)}
    if set(map(type, values)) <= {int, float} and str not in map(type, ids):
        return np.array([position_of.get(value, MISSING) for value in values], dtype=np.intp), 0
    texts = {str(key): index for key, index in position_of.items()}
    files = positions_by_name(file_names)
    indices, named = np.full(len(values), MISSING), 0
    for index, value in enumerate(values):
        if (number := id_of(value)) is None:
            raise InvalidInput(
                f"Expected every `{key}` in `{path}` to be an id of the annotated set, got {shown(value)} at "
                f"entry {index}."
            )
        text = str(number)
        indices[index] = texts.get(text, MISSING)
        if indices[index] == MISSING and text in files:
            indices[index], named = files[text], named + 1
    return indices, named


def stranger(
    entries: Sequence[Entry], indices: NDArray[np.intp], key: str, path: Source, fix: str
) -> InvalidInput:
    """The error that names the first entry whose id is none of the annotated set's."""
    strange = np.flatnonzero(indices == MISSING)
    first = int(strange[0])
    return InvalidInput(
        f"Expected every `{key}` in `{path}` to be one of the annotated set's, got another in "
        f"{len(strange)} of {len(entries)} entries: {shown(entries[first].get(key))} at entry {first}. {fix}"
    )


def positions_by_name(file_names: Sequence[str]) -> dict[str, int]:
    """Positions by whole file names, by those without folder and ending, by the numbers that such stems are;
    none that two pictures share.
    """
    position_of: dict[str, int] = {}
    shared: set[str] = set()
    for index, name in enumerate(file_names):
        path = PurePosixPath(name.replace("\\", "/"))
        number = {str(int(path.stem))} if path.stem.isdecimal() and len(path.stem) < DIGITS else set()
        for text in {name, path.name, path.stem, *number} - {""}:
            if position_of.setdefault(text, index) != index:
                shared.add(text)
    return {text: index for text, index in position_of.items() if text not in shared}
