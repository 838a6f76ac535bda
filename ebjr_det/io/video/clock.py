"""When the frames of a source are seen, from the times that its file states."""

from fractions import Fraction

RESET = 1
"""Seconds that a file's clock must go back to have been set anew, as where recordings were joined."""
INSTANT = Fraction(1, 1000)


class Clock:
    """Seconds from a source's start, of frames in the order in which they are seen.

    The first frame is seen from the start on, even where its file has it later (sound that began before).
    A frame without a time comes one turn after the one before. A time that is not later than the one before
    is a disorder of the file: the frame is kept, an instant after it. Where the file's clock was set back by
    more than a second, the times go on from there, one turn after the last.

    Args:
        origin: time in the file that is the start; None for the first frame's.
        turn: seconds from a frame to the next where nothing else is known.
    """

    def __init__(self, origin: Fraction | None, turn: Fraction) -> None:
        self.origin, self.turn = origin, turn
        self.last: Fraction | None = None

    def seen(self, time: Fraction | None) -> Fraction:
        """The second at which the next frame is seen, whose file states a time or none."""
        if self.last is None:
            first = Fraction(0) if time is None else time
            self.origin = first if self.origin is None else min(self.origin, first)
            self.last = Fraction(0)
            return self.last
        assert self.origin is not None
        second = self.last + self.turn if time is None else time - self.origin
        if self.last - second > RESET and time is not None:
            second = self.last + self.turn
            self.origin = time - second
        self.last = second if second > self.last else self.last + INSTANT
        return self.last
