"""Loops that numba compiles, for the few places where numpy has no words for them."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile with numba; the result is cached on disk where a place for that can be written to."""

    def compile_(function: Callable[..., object]) -> object:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no place to cache in
            return numba.njit(**options)(function)

    return compile_
