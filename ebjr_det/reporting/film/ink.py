"""Colours and numbers of the film. Colours are Okabe and Ito's, as in every figure here."""

STUDENT, TEACHER = "#0072B2", "#D55E00"
INK, GREY, RULE, PAPER, EMPTY = "#222222", "#6b6b6b", "#dddddd", "#ffffff", "#ececec"
UNKNOWN = "\u2013"


def number(value: float, digits: int) -> str:
    """A number with a true minus sign and this many decimals, or in powers of ten where it would be long.

    >>> number(-0.5, 2), number(float("inf"), 2), number(-1e9, 1), number(2.5e-7, 9)
    ('\u22120.50', '\u221e', '\u22121e+09', '2.5e\u221207')
    """
    if abs(value) == float("inf"):
        text = f"{'-' if value < 0 else ''}\u221e"
    else:
        text = f"{value:.{digits}f}" if abs(value) < 1e6 and digits < 6 else f"{value:.2g}"
    return text.replace("-", "\u2212")


def significant(value: float | None) -> str:
    """A positive number with three significant digits.

    >>> significant(0.53219), significant(31.04), significant(1530.2), significant(None)
    ('0.532', '31.0', '1,530', '\u2013')
    """
    if value is None:
        return UNKNOWN
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"
