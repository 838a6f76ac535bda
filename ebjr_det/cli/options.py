"""The options that commands share, each declared once, and the settings that they stand for."""

from collections.abc import Callable, Sequence
from functools import reduce, wraps
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import rich_click as click
from click.shell_completion import CompletionItem

from ebjr_det.core.errors import ConfigError, did_you_mean

Command: TypeAlias = Callable[..., object]
Decorator: TypeAlias = Callable[[Command], Command]
Number = TypeVar("Number", int, float)


class LocalPath(click.Path):
    """A path of this machine; nothing, and an address, would be read as another place than meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises BadParameter, which is one line, for what is none."""
        if isinstance(value, str) and (not value or "://" in value):
            self.fail(f"Expected a path of this machine, got `{value}`.", param, ctx)
        return super().convert(value, param, ctx)


PATH = LocalPath(path_type=Path)


class Name(click.ParamType[Any]):
    """Text that is usually one of some names, which help lists and shells complete.

    Args:
        of: function of `api.names` that tells the names; called when they are asked for.
        about: passed to it where given, such as a task.
    """

    name = "name"
    head = "One of"

    def __init__(self, of: str, about: str | None = None) -> None:
        self.of, self.about = of, about

    @property
    def names(self) -> list[str]:
        """What there is to choose from."""
        from ebjr_det.api import names

        tell: Callable[..., list[str]] = getattr(names, self.of)
        return tell() if self.about is None else tell(self.about)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so."""
        return [CompletionItem(name) for name in self.names if name.startswith(incomplete)]


class NameOrPath(Name):
    """A file, or one of some names."""

    head = "With the package come"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path as it was typed."""
        return Path(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so, then files."""
        names = super().shell_complete(ctx, param, incomplete)
        return names or [CompletionItem(incomplete, type="file")]


class TellsNames(click.Parameter):
    """A parameter whose help ends in the names that it takes."""

    text: str | None = None

    def _tell(self) -> str | None:
        if self.text is None or not isinstance(self.type, Name):
            return self.text
        return f"{self.text} {self.type.head}: {', '.join(self.type.names)}."

    help = property(_tell, lambda self, text: setattr(self, "text", text))


class NamedOption(TellsNames, click.RichOption):
    """An option that takes a name."""


class NamedArgument(TellsNames, click.RichArgument):
    """An argument that takes a name."""


def name_option(*flags: str, of: str, task: str | None = None, **settings: Any) -> Decorator:
    """An option that takes a name of `api.names.<of>`."""
    return click.option(*flags, cls=NamedOption, type=Name(of, task), **{"metavar": "NAME"} | settings)


def name_argument(name: str, kind: Name, **settings: Any) -> Decorator:
    """An argument that takes a name, or names."""
    return click.argument(name, cls=NamedArgument, type=kind, **settings)


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator."""
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def device(section: str) -> Decorator:
    """Where networks run, a setting of `section`."""
    return name_option("--device", of="devices", help=f"Where networks run. [{section}.device]")


def seed(purpose: str) -> Decorator:
    """The seed of what `purpose` names."""
    return click.option("--seed", type=int, default=0, show_default=True, help=purpose)


def bootstrap(replicates: int, purpose: str = "Resamples.") -> Decorator:
    """The number of resamples."""
    return click.option("--bootstrap", type=int, default=replicates, show_default=True, help=purpose)


def config(verb: str) -> Decorator:
    """The argument that every command has which takes settings."""
    kind = NameOrPath("configurations", verb)
    return name_argument("config", kind, help="A configuration, as a file or by name.")


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
VERBOSE = click.option("--verbose", "-v", is_flag=True, help="Print all tables, not the short answer alone.")
SET = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="A.B=C",
    help="Change a setting; repeatable. `ebjr-det init` tells all.",
)
ROUTER = click.option("--router", type=PATH, help="A router that fit-router made. [router.file]")
RUNTIMES = together(
    click.option("--threads", type=int, help="Of torch and runtimes, by default one a CPU. [run.threads]"),
    name_option("--runtime", of="runtimes", help="What runs both networks; auto takes the fastest."),
    name_option("--student-runtime", of="runtimes", help="Of the student alone. [student.runtime]"),
    name_option("--teacher-runtime", of="runtimes", help="Of the teacher alone. [teacher.runtime]"),
)
PRINT_CONFIG = click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
DECISION = together(
    click.option(
        "--threshold", type=float, help="Defer where score > threshold; by default the configured one."
    ),
    ROUTER,
    click.option("--rate", type=float, help="Its threshold for this deferral rate, instead of a threshold."),
)
"""How a live pair decides."""
MACS = together(
    click.option("--student-macs", type=float, help="Multiply-adds an image."),
    click.option("--teacher-macs", type=float, help="Multiply-adds an image."),
)
REFERENCES = click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="NAME=FILE:MACS[:MS]",
    help="A further single model to compare with; FILE holds its answers as the teacher's does. Repeatable.",
)


def settings_from(section: str) -> Decorator:
    """Give a command one list `changes` in place of its options that stand for settings.

    Later ones win: a fitted router and runtimes, then `--set`, then the settings of `section`. With a fitted
    router goes what belongs to another one: checksum, score, options and threshold.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def call(*, changes: Sequence[str], **values: Any) -> object:
            option = {name: values.pop(name, None) for name in SETTINGS}
            weak = {
                "router.file": option["router"],
                "student.runtime": option["student_runtime"] or option["runtime"],
                "teacher.runtime": option["teacher_runtime"] or option["runtime"],
            }
            strong = {f"{section}.{name}": option[name] for name in ("device", "batch_size", "workers")}
            (weak if section == "run" else strong)[f"{section}.threads"] = option["threads"]
            fitted = () if option["router"] is None else UNFITTED
            return command(changes=[*_stated(weak), *fitted, *changes, *_stated(strong)], **values)

        return call

    return decorate


SETTINGS = (
    "router", "runtime", "student_runtime", "teacher_runtime", "threads", "device", "batch_size", "workers",
)  # fmt: skip
UNFITTED = ("router.sha256=null", "router.score=null", "router.options={}", "router.threshold=null")


def _stated(values: dict[str, object]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def cluster_of(ray: bool, address: str | None) -> str | None:
    """The Ray cluster that `--ray` and `--address` mean, `local` for one that is started; None for none."""
    if address is not None and not ray:
        raise ConfigError("Expected --ray beside --address, got none.")
    return None if not ray else "local" if address is None else address


def numbers(text: str, kind: Callable[[str], Number], purpose: str = "") -> list[Number]:
    """Numbers with commas between them; `purpose` names the option in the error."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"Expected numbers with commas between them{purpose}, got `{text}`.") from error


class Group(click.RichGroup):
    """A group that offers the nearest command for an unknown one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command as click finds it, with another error."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"Expected a known command, got `{args[0]}`. {hint}")
        return super().resolve_command(ctx, args)
