"""What the reference takes from the package itself: commands, settings, scores, public names, glossary.

A page says `<!-- generated: NAME -->` where one of these stands.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator

import rich_click as click

import ebjr_det
from ebjr_det.api import names
from ebjr_det.api.schema import section_of, verb_of
from ebjr_det.api.scores import list_scores
from ebjr_det.bulk.table import column_meanings
from ebjr_det.cli import cli
from ebjr_det.config import Setting, describe
from ebjr_det.reporting.glossary import GLOSSARY
from ebjr_det.serving import openapi
from ebjr_det.tasks import TASKS, load_task

FLAG = re.compile(r"(?<![`\w])(--[\w-]+)")
MARK = re.compile(r"<!-- generated: (\w+) -->")


RECIPE = re.compile(r"\]\((?:\.\./)+(?:eval/)?(\w+)/README\.md")
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?!/results/|https?:|#)[^)]*\)")


def fill(text: str) -> str:
    """A page with its marks replaced, and its links to recipes led to the pages of these."""
    return RECIPE.sub(r"](/results/\1.md", MARK.sub(lambda mark: PARTS[mark[1]](), text))


def of_eval(text: str) -> str:
    """A recipe's own page as it is included here: links to files that are not part of the site are text."""
    return LINK.sub(r"\1", fill(text))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), ["-"] * len(list(head)), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below one, with the words that call it."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from walk(command.get_command(context, name), (*words, name))


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n\n".join(_command(words, command) for words, command in walk(cli, ("ebjr-det",)))


def _command(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(words))
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [
        f"## {' '.join(words[1:])}",
        inspect.cleandoc(command.help or ""),
        f"    {' '.join(words)} {usage}",
    ]
    rows = [_parameter(parameter, context) for parameter in command.params]
    return "\n\n".join([*parts, table(["argument or option", "meaning"], rows)])


def _parameter(parameter: click.Parameter, context: click.Context) -> tuple[str, str]:
    form = parameter.make_metavar(context)
    if isinstance(parameter, click.Argument):
        return f"`{form}`", parameter.help or ""
    flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
    meaning = FLAG.sub(r"`\1`", parameter.help or "")
    if parameter.show_default and parameter.default is not None:
        meaning += f" Default: `{parameter.default}`."
    if parameter.required:
        meaning += " Required."
    return flags if parameter.is_flag else f"{flags} `{form}`", meaning


def settings() -> str:
    """Every setting of every kind of configuration."""
    kinds = [(kind, None) for kind in names.kinds() if kind in TASKS]
    kinds += [(kind, task) for kind in names.kinds() if kind not in TASKS for task in reversed(TASKS)]
    return "\n\n".join(_settings(kind, task) for kind, task in kinds)


def _settings(kind: str, task: str | None) -> str:
    head = f"## {kind.capitalize()}" + (f", {task}" if task else "")
    starts = f"ebjr-det init {kind}" + (f" --task {task}" if task else "")
    parts = [f"{head}\n\nSettings of `ebjr-det {verb_of(kind)}`; `{starts}` writes a file with all of them."]
    for section, rows in _by_section(describe(section_of(kind, task))).items():
        if section:
            parts.append(f"### {section} ({kind}{', ' + task if task else ''})")
        parts.append(table(["setting", "type", "default", "meaning"], rows))
    return "\n\n".join(parts)


def _by_section(listed: Iterable[Setting]) -> dict[str, list[tuple[str, str, str, str]]]:
    """Section -> rows; what two models have in common is one row."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for setting in listed:
        leaf = setting.name.rpartition(".")[2]
        alike.setdefault((leaf, setting.kind, _default(setting), setting.meaning), []).append(setting.name)
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    for (_, kind, default, meaning), whole in alike.items():
        section = "" if kind == "settings" or "." not in whole[0] else _section(whole)
        sections.setdefault(section, []).append(
            (" ".join(f"`{name}`" for name in whole), kind, default, meaning)
        )
    return sections


def _section(whole: list[str]) -> str:
    """The sections that settings are in, the outermost ones."""
    return ", ".join(dict.fromkeys(name.partition(".")[0].removesuffix("[]") for name in whole))


def _default(setting: Setting) -> str:
    return "required" if setting.default is None else f"`{setting.default}`" if setting.default else ""


def scores() -> str:
    """Every deferral score."""
    rows = [
        (f"`{s.name}`", s.task, f"`{s.formula}`", ", ".join(s.options), ", ".join(s.needs), s.source)
        for s in list_scores()
    ]
    return table(["score", "task", "formula", "options", "needs", "source"], rows)


def addresses() -> str:
    """Every address of a server whose model is called `pair`."""
    paths = openapi.describe(["pair"], "")["paths"]
    rows = [
        (f"`{method.upper()} {path}`", operation["summary"])
        for path, operations in paths.items()
        if "/versions/" not in path
        for method, operation in operations.items()
    ]
    return table(["address", "answers with"], rows)


def rule() -> str:
    """What a request may say about how it is decided."""
    rows = [(f"`{name}`", schema["description"]) for name, schema in openapi.RULE.items()]
    return table(["parameter", "meaning"], rows)


def faults() -> str:
    """The statuses of refusals."""
    return table(["status", "why"], openapi.FAULTS.items())


def columns() -> str:
    """The columns of answers to a job's pictures, by task."""
    parts = []
    for task in reversed(TASKS):
        rows = [
            (f"`{name}`", f"`{kind}`", meaning)
            for name, kind, meaning in column_meanings(load_task(task).tensors)
        ]
        parts.append(f"## {task.capitalize()}\n\n" + table(["column", "type", "meaning"], rows))
    return "\n\n".join(parts)


def public_names() -> str:
    """Every name of the public door, verbs first."""
    verbs = {"_".join(words[:n]).replace("-", "_") for words, _ in walk(cli, ()) for n in (1, 2)} | {"load"}
    kinds: dict[str, list[str]] = {"Verbs": [], "Functions": [], "Classes": []}
    for name in ebjr_det.__all__:
        value = getattr(ebjr_det, name)
        kind = "Verbs" if name in verbs else "Classes" if inspect.isclass(value) else "Functions"
        directive = "autoclass" if inspect.isclass(value) else "autofunction"
        members = "\n   :members:" if inspect.isclass(value) else ""
        kinds[kind].append(f"```{{eval-rst}}\n.. {directive}:: ebjr_det.{name}{members}\n```")
    return "\n\n".join(f"## {kind}\n\n" + "\n\n".join(parts) for kind, parts in kinds.items())


def glossary() -> str:
    """Every word that reports use beyond plain English."""
    entries = "\n\n".join(f"{word}\n  {meaning}" for word, meaning in GLOSSARY.items())
    return f"```{{glossary}}\n{entries}\n```"


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "scores": scores,
    "public_names": public_names,
    "glossary": glossary,
    "addresses": addresses,
    "rule": rule,
    "faults": faults,
    "columns": columns,
}
