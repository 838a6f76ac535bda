"""The pictures that a run folder shows: `gallery.json`, written by a task, and the files that it names."""

from base64 import b64encode
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.io.files import existing_file
from ebjr_det.io.third_party import first_fault

GALLERY = "gallery.json"
KINDS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@dataclass(frozen=True)
class Picture:
    """One picture file, by its path within the run folder, and what is to be seen in it."""

    image_id: str
    file: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Group:
    """Pictures that belong together, under a title."""

    title: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """All groups, in reading order, and what their colours mean; a run folder without a gallery has none."""

    legend: str = ""
    groups: tuple[Group, ...] = ()

    def within(self, run_dir: Path, limit: int) -> "Gallery":
        """The first pictures of every group, so many that their files hold at most `limit` bytes."""
        longest = max((len(group.pictures) for group in self.groups), default=0)
        for count in range(longest, 0, -1):
            groups = [replace(group, pictures=group.pictures[:count]) for group in self.groups]
            pictures = {picture.file for group in groups for picture in group.pictures}
            if sum(_picture_file(run_dir, file).stat().st_size for file in pictures) <= limit:
                break
        else:
            groups, count = [], 0
        hidden = sum(max(len(group.pictures) - count, 0) for group in self.groups)
        note = f" {hidden} further ones are in the run's folder." if hidden else ""
        return replace(self, legend=self.legend + note, groups=tuple(groups))


def load_gallery(run_dir: Path) -> Gallery:
    """The folder's gallery. Raises InvalidInput for another content and for files that it may not show."""
    path = run_dir / GALLERY
    if not path.exists():
        return Gallery()
    try:
        gallery = TypeAdapter(Gallery).validate_json(existing_file(path, "a gallery").read_bytes())
    except ValidationError as error:
        raise InvalidInput(f"Expected a gallery in `{path}`, got {first_fault(error)}.") from error
    for picture in (picture for group in gallery.groups for picture in group.pictures):
        _picture_file(run_dir, picture.file)
    return gallery


def data_uri(run_dir: Path, file: str) -> str:
    """A picture of the run folder as an address that holds all of it."""
    path = _picture_file(run_dir, file)
    return f"data:{KINDS[path.suffix.lower()]};base64,{b64encode(path.read_bytes()).decode()}"


def _picture_file(run_dir: Path, file: str) -> Path:
    """The file, proven to be a picture inside the run folder."""
    try:
        path = (run_dir / file).resolve()
        inside = path.is_relative_to(run_dir.resolve())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"Expected a path in the gallery, got `{file}`: {first_line(error)}.") from error
    if not inside or path.suffix.lower() not in KINDS:
        raise InvalidInput(
            f"Expected pictures ({', '.join(KINDS)}) inside `{run_dir}` in its gallery, got `{file}`."
        )
    return existing_file(path, "a picture of the gallery")
