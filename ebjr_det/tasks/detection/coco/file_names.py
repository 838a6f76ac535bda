"""Names of pictures in annotations: in the folder of pictures, and found there under a tool's own paths."""

import os
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import repr as shown
from urllib.parse import unquote

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.memory import Source
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.validate import text

UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of a picture that somebody uploaded."""
ELSEWHERE = "pictures found by the end of the name that the file has for them"


def check_file_names(annotations: Annotations, path: Source) -> None:
    """Raises InvalidInput where a picture has no name, or one that leaves the folder of pictures."""
    for image, name in zip(annotations.image_ids, annotations.file_names, strict=True):
        text(name, "file names", path)
        if not name or not is_inside(name) or "\0" in name:
            raise InvalidInput(
                f"Expected file names inside the folder of images in `{path}`, got {shown(name)} of image "
                f"{shown(image)}."
            )


def located(annotations: Annotations, folder: Path) -> Annotations:
    """The annotations with the name of each picture's file below a folder; a remark counts other names.

    A tool writes the path that a picture had with it: with folders above, in a URL's letters, with a mark
    before it. Of such a path the longest end that is a file of the folder counts.
    """
    names, elsewhere = list[str](), 0
    for written in annotations.file_names:
        sound = "\0" not in written and bool(written)
        if sound and not (is_inside(written) and os.path.isfile(folder / written)):
            name = next((end for end in _ends(written) if os.path.isfile(folder / end)), None)
            elsewhere += name is not None
            names.append(written if name is None else name)
        else:
            names.append(written)
    remarks = dict(annotations.remarks) | ({ELSEWHERE: elsewhere} if elsewhere else {})
    return replace(annotations, file_names=tuple(names), remarks=remarks)


def is_inside(name: str) -> bool:
    """Whether a path stays in the folder that it is relative to, on any system."""
    windows = PureWindowsPath(name)
    return not (PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts)


def _ends(written: str) -> list[str]:
    """The ends of a path that could be a picture's own name, the longest first."""
    path = unquote(written.split("?d=")[-1]).replace("\\", "/")
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", ".", "..")]
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    plain = UPLOAD.sub("", parts[-1], count=1) if parts and UPLOAD.match(parts[-1]) else None
    return [end for end in [*ends, plain] if end and is_inside(end)]
