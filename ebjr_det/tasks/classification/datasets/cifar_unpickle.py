"""Unpickling CIFAR's python files without running, or handing to numpy, anything a file says."""

import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


class _UInt8:
    """Stands for numpy's dtype while unpickling; takes uint8 and no state that could change its layout."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", b"u1", "|u1", b"|u1"):
            raise pickle.UnpicklingError(f"it holds numbers of type {code!r}")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment mean nothing for single bytes."""


class _Pixels:
    """Stands for a numpy array while unpickling: numpy itself never sees a state from the file."""

    pixels: NDArray[np.uint8] | None = None

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _UInt8):
            raise pickle.UnpicklingError("it holds an array of another type")
        self.pixels = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _latin1(text: str, _: str = "latin1") -> bytes:
    return text.encode("latin1")


class PlainUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers, bytes and uint8 arrays, and refuses to look up anything else."""

    STAND_INS: ClassVar[dict[tuple[str, str], Callable[..., object]]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Pixels,
        ("numpy._core.multiarray", "_reconstruct"): _Pixels,
        ("numpy", "ndarray"): _Pixels,
        ("numpy", "dtype"): _UInt8,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """The stand-in of a known name. Raises UnpicklingError for any other."""
        if (module, name) not in self.STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.STAND_INS[module, name]
