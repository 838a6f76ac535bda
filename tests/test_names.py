"""Names are nouns of the field: how many local names are pronouns, adverbs and words that say nothing."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "ebjr_det"
VAGUE = set(
    """
    own found one told place lot whole here there dear said known shown wanted asked given taken kept rest few
    some many more less most none others other each both such this that these those it its itself they them
    their theirs who what where when how why apart beside ahead before after again now then once twice further
    alike fine likely usual odd special same several all any much little thing things way ways its_own
    """.split()
)
AT_MOST = 25
"""It was 839 of 9,200 with this list; it only goes down."""


def local_names(tree: ast.Module) -> set[tuple[int, str]]:
    """(line of the function, name) of every parameter and every name that a function assigns."""
    names = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names.add((function.lineno, node.id))
                elif isinstance(node, ast.arg):
                    names.add((function.lineno, node.arg))
    return names


def vague_names() -> Iterator[tuple[str, int, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, name in sorted(local_names(ast.parse(path.read_text()))):
            if name.strip("_") in VAGUE:
                yield path.relative_to(PACKAGE).as_posix(), line, name


def test_local_names_say_what_they_hold():
    vague = list(vague_names())
    worst = Counter(path for path, _, _ in vague).most_common(5)
    assert len(vague) <= AT_MOST, f"{len(vague)} vague names; most of them in {worst}"


def test_the_count_sees_parameters_assignments_and_loops():
    tree = ast.parse(
        "def f(told, x=1):\n    own = [there for there in told]\n    for _one in own:\n        pass\n"
    )
    assert {name for _, name in local_names(tree)} == {"told", "x", "own", "there", "_one"}


LEANING = re.compile(
    r"(The same|Those|That of|As (it|they)\b|Its |Both |None\b|It |They |These |Likewise|Itself|Of )"
)


def first_lines() -> Iterator[tuple[str, str, str]]:
    """(file, what it is of, first line) of every docstring."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
                text := ast.get_docstring(node)
            ):
                name = getattr(node, "name", "module")
                yield path.relative_to(PACKAGE).as_posix(), name, text.splitlines()[0]


def test_a_docstrings_first_line_stands_alone():
    """It has a subject, and does not lean on what stands above it."""
    leaning = [row for row in first_lines() if LEANING.match(row[2]) or len(row[2].split()) < 3]
    assert not leaning
