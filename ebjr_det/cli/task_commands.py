"""Commands that every task has: one subcommand a task, with the files and options of the task's plugin."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rich_click as click

from ebjr_det.cli.options import PATH, Decorator, Group, together

if TYPE_CHECKING:
    from ebjr_det.tasks.contract import TaskPlugin

Run = Callable[..., None]
Options = Callable[["TaskPlugin"], Decorator]
TIER = click.option(
    "--tier",
    "tiers",
    multiple=True,
    metavar="NAME=FILE:MACS[:MS]",
    help="Instead of a student and a teacher one of several models, in the order in which pictures go along; "
    "FILE holds its answers. Repeatable.",
)


class TaskGroup(Group):
    """A group whose subcommands are the registered tasks, made when they are asked for, beside its own.

    Args:
        run: called with the saved outputs and the values of `options`; its docstring is the group's help.
        options: the task -> the options that every task has.
        wording: what a task reads -> the help of its subcommand.
        tiers: whether several models may stand in place of a student and a teacher.
    """

    def __init__(
        self, name: str, run: Run, options: Options, wording: Callable[[str], str], *, tiers: bool = False
    ) -> None:
        super().__init__(name=name, help=run.__doc__)
        self.run, self.options, self.wording, self.tiers = run, options, wording, tiers

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every task by name, and the group's own commands."""
        from ebjr_det.tasks import TASKS

        return [*TASKS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a task; a task of one's own is `package.module:Class`."""
        from ebjr_det.tasks import TASKS

        if cmd_name in TASKS or ":" in cmd_name:
            return self._of_task(cmd_name)
        return super().get_command(ctx, cmd_name)

    def _of_task(self, task: str) -> click.Command:
        from ebjr_det.tasks import load_task

        plugin, run = load_task(task), self.run
        parameters = {
            key: option for key, option in plugin.replay_options.items() if self.name in option.verbs
        }

        def call(references: tuple[str, ...], tiers: tuple[str, ...] = (), **values: Any) -> None:
            from ebjr_det.api.references import ReferenceFile
            from ebjr_det.api.saved_outputs import SavedOutputs
            from ebjr_det.api.tiers import TieredOutputs

            files = {name: values.pop(f"file_{name}") for name in plugin.replay_files}
            files = {name: path for name, path in files.items() if path is not None}
            options = {name: values.pop(name) for name in parameters}
            options = {
                name: value for name, value in options.items() if value is not None and value is not False
            }
            if tiers:
                chain = [ReferenceFile.parse(tier, "tier") for tier in tiers]
                run(TieredOutputs(task, chain, files, options), references=references, **values)
                return
            for name, file in plugin.replay_files.items():
                if name not in files and not file.optional:
                    raise click.UsageError(f"Missing option '{file.flag}', or two and more '--tier'.")
            run(SavedOutputs(task, files, list(map(ReferenceFile.parse, references)), options), **values)

        options = [
            click.option(
                file.flag,
                f"file_{name}",
                type=PATH,
                required=not (file.optional or self.tiers),
                help=file.help,
            )
            for name, file in plugin.replay_files.items()
        ]
        options += [TIER] * self.tiers
        for name, option in parameters.items():
            switch = option.kind is bool or None  # False would let the option stand without a value
            kind = None if switch else option.kind
            options.append(
                click.option(
                    option.flag, name, help=option.help, is_flag=switch, type=kind, metavar=option.metavar
                )
            )
        call.__doc__ = self.wording(plugin.replay_inputs)
        return click.command(task)(together(*options, self.options(plugin))(call))


def task_group(
    name: str, options: Options, wording: Callable[[str], str], *, tiers: bool = False
) -> Callable[[Run], TaskGroup]:
    """A decorator: a function of saved outputs and options -> a `TaskGroup` that runs it; see there."""
    return lambda run: TaskGroup(name, run, options, wording, tiers=tiers)
