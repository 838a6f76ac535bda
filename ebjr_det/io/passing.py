"""Errors that pass: of a machine, a mount or a device, for which no file is to blame."""

import errno
import mmap

OF_A_FILE = (
    None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP,
    errno.ENAMETOOLONG, errno.EINVAL,
)  # fmt: skip
"""Numbers of errors for which a file or its name is the reason; libraries that decode give none."""
ROOM = 2**29
"""Bytes within which the largest picture that is opened is decoded."""


def is_passing(error: BaseException | None) -> bool:
    """Whether an error says nothing of the file that was read, which may be read at another time.

    Decoders also say of damage that memory was lacking, so that is believed only where it is.

    >>> is_passing(OSError(errno.EMFILE, "Too many open files")), is_passing(OSError("damaged"))
    (True, False)
    """
    if isinstance(error, MemoryError):
        return not _has_room()
    return isinstance(error, OSError) and error.errno not in OF_A_FILE


def _has_room() -> bool:
    try:
        mmap.mmap(-1, ROOM).close()  # asked for, and never touched
    except OSError:
        return False
    return True
