"""Known files fetched: a progress bar, resumed where a connection broke, checked before they get their name.

Weights come from the manifest, data sets from `DATASETS`. Knows nothing about what is in the files; nothing
that was fetched is opened before its checksum is right.
"""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean, first_line
from ebjr_det.io.checkpoints.finding import folders, manifest
from ebjr_det.io.files import checksum, writable_folder

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """One zip file of a data set.

    Attributes:
        url: where it lies.
        md5: of the file.
        members: the beginning of the paths in it that are unpacked.
    """

    url: str
    md5: str
    members: str


_COCO = "http://images.cocodataset.org"
DATASETS = {
    "coco-val2017": (
        "coco",
        (
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                "f4bbac642086de4f52a3fdda2de5fa2c",
                "annotations/instances_val2017.json",
            ),
            Archive(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", "val2017/"),
        ),
    ),
}
"""Data sets by name: their folder below the data's root, and their archives."""


def download(name: str, data: Path = Path("data")) -> list[Path]:
    """Fetch weights or a data set by name; what is already there and whole stays as it is.

    Args:
        name: a manifest name with a `url`, or a key of `DATASETS`.
        data: the root below which data sets lie.

    Returns:
        the files of weights, or the folder of the data set.

    Raises:
        ConfigError: an unknown name, or weights that only their owner hands out.
        InvalidInput: the server, the connection or the disk refuses, or the content is another one.
    """
    if name in DATASETS:
        folder, archives = DATASETS[name]
        return [_fetch_dataset(data / folder, archives)]
    entry = manifest().get(name)
    if entry is None:
        names = [*DATASETS, *(key for key, listed in manifest().items() if listed.url)]
        raise ConfigError(f"Expected a known file, got `{name}`. {did_you_mean(name, names)}")
    if not entry.url:
        raise ConfigError(f"Expected a file that can be fetched, got `{name}`: get it from {entry.source}.")
    path = folders()[0] / entry.files[0]
    fetch(entry.url, path, "sha256", entry.sha256)
    return [path]


def fetch(url: str, path: Path, algorithm: str, digest: str) -> None:
    """Fetch one file to `path`. A broken transfer leaves `path`.part, from which the next call goes on.

    Args:
        algorithm: of the checksum; `digest`: hexadecimal, whole or its beginning.

    Raises:
        InvalidInput: nothing that has this checksum could be fetched; `path` is as it was.
    """
    if path.is_file() and checksum(path, algorithm).startswith(digest):
        return
    writable_folder(path.parent)
    part = path.with_name(f"{path.name}.part")
    try:
        _transfer(url, part)
    except (OSError, HTTPException, ValueError) as error:
        raise InvalidInput(
            f"Expected `{url}` to send the file, got: {first_line(error)}. {_size(part):,} bytes are kept; "
            "run it again."
        ) from error
    received = checksum(part, algorithm)
    if not received.startswith(digest):
        part.unlink()
        raise InvalidInput(f"Expected {algorithm} {digest} from `{url}`, got {received}. Nothing was kept.")
    part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _transfer(url: str, part: Path) -> None:
    """Append to `part` what it lacks; a server that does not resume sends all again."""
    start = _size(part)
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310
    try:
        response = urlopen(request, timeout=TIMEOUT)  # noqa: S310, addresses are the project's own
    except HTTPError as error:
        if error.code == 416 and start:  # nothing is lacking, or another file: the checksum tells
            return
        raise
    with response, part.open("ab") as opened:
        if response.status != 206:  # the file from its beginning, not from where we are
            start = 0
            opened.truncate(0)
        length = int(response.headers.get("Content-Length") or 0)
        with tqdm(
            total=start + length or None, initial=start, unit="B", unit_scale=True, desc=part.stem
        ) as bar:
            while piece := response.read(CHUNK):
                opened.write(piece)
                bar.update(len(piece))
        if length and opened.tell() < start + length:
            raise OSError(f"{opened.tell():,} of {start + length:,} bytes before the connection ended")


def _fetch_dataset(folder: Path, archives: Iterable[Archive]) -> Path:
    for archive in archives:
        path = folder / archive.url.rsplit("/", 1)[1]
        done = folder / f".{path.stem}-{archive.md5[:8]}"
        if done.is_file():
            continue
        fetch(archive.url, path, "md5", archive.md5)
        _unpack(path, folder, archive.members)
        done.touch()
        path.unlink()
    return folder


def _unpack(path: Path, folder: Path, members: str) -> None:
    """Unpack what begins with `members` below `folder`, none outside it."""
    try:
        with zipfile.ZipFile(path) as opened:
            names = [name for name in opened.namelist() if name.startswith(members)]
            for name in tqdm(names, desc=f"unpacking {path.name}", unit="file"):
                opened.extract(name, folder)  # zipfile itself takes off leading slashes and `..`
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"Expected to unpack `{path}` in `{folder}`, got: {first_line(error)}.") from error
