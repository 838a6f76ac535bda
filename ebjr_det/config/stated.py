"""What a configuration and a command line state alike: single models to compare with, a mix of classes."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from ebjr_det.core.errors import ConfigError


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("words without control characters")
    return text


Words = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
VALUE = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
"""Of a dataclass that is a section: pydantic's `strict` would take no mapping for it, so its fields are."""
Number = Annotated[float, Field(strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Inside = Annotated[float, Field(gt=0, lt=1, strict=True)]
Cost = Annotated[float, Field(gt=0, le=1e30, strict=True)]


@dataclass(frozen=True)
class Reference:
    """A single model to compare with; without a quality of its own where a run holds its records."""

    __pydantic_config__: ClassVar[ConfigDict] = VALUE

    name: Annotated[Words, Field(description="Name in tables and figures.")]
    quality: Share | None
    macs: Annotated[Cost, Field(description="Multiply-adds an image.")]
    latency_ms: Annotated[Cost | None, Field(description="Latency of an image, in ms.")] = None
    source: Annotated[Words, Field(description="Where the figures come from.")] = ""


@dataclass(frozen=True)
class PublishedReference(Reference):
    """A single model by its published quality."""

    quality: Share
    """Quality as it was published, in [0, 1]."""


@dataclass(frozen=True)
class StatedMix:
    """A mix of classes as people state it; exactly one of `share`, `histogram` and `zipf`.

    Raises:
        ConfigError: none or several of them, or numbers that cannot be.
    """

    __pydantic_config__: ClassVar[ConfigDict] = VALUE

    popular: list[int | str] | None = None
    """Popular classes, the most popular first, by name or index; by default those of the student."""
    share: Number | None = None
    """Share of the traffic that is popular; inside both groups classes are as in the data."""
    histogram: dict[str, Number] | None = None
    """Share of each class, 0 of those that it leaves out."""
    zipf: Number | None = None
    """Exponent of Zipf's law over the popular classes, then the others in the order of the data."""

    def __post_init__(self) -> None:
        stated = sum(value is not None for value in (self.share, self.histogram, self.zipf))
        if stated != 1:
            raise ConfigError(
                "Expected exactly one of a share of the popular classes, a histogram and an exponent of "
                f"Zipf's law, got {stated or 'none'}."
            )
        if self.share is not None and not 0 <= self.share <= 1:
            raise ConfigError(f"Expected a share of the popular classes in [0, 1], got {self.share}.")
        if self.zipf is not None and not 0 <= self.zipf < math.inf:
            raise ConfigError(f"Expected an exponent of at least 0 for Zipf's law, got {self.zipf}.")
        shares = [] if self.histogram is None else list(self.histogram.values())
        for share in shares:
            if not 0 <= share < math.inf:
                raise ConfigError(f"Expected shares of classes from 0 to 1, got {share:g}.")
        if self.histogram is not None and abs(sum(shares) - 1) > SUM_TOLERANCE:
            raise ConfigError(f"Expected shares of classes that sum to 1, got a sum of {sum(shares):.8g}.")


SUM_TOLERANCE = 1e-6
