"""Commands that every task has: one subcommand a task, with the files and options of the task's plugin."""

from collections.abc import Callable
from typing import Any

import rich_click as click

from ebjr_det.cli.options import PATH, Group, together

Run = Callable[..., None]


class TaskGroup(Group):
    """A group whose subcommands are the registered tasks, made when they are asked for, beside its own.

    Attributes:
        run: called with the saved outputs and the values of `options`.
        options: resamples by default -> the options that every task has.
        wording: the first letters of a subcommand's help, before what the task reads.
    """

    run: Run
    options: Callable[[int], Callable[[Any], Any]]
    wording: Callable[[str], str]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every task by name, and the group's own commands."""
        from ebjr_det.tasks import TASKS

        return [*TASKS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> Any:
        """The command of a task; a task of one's own is `package.module:Class`."""
        from ebjr_det.tasks import TASKS

        if cmd_name in TASKS or ":" in cmd_name:
            return self._of_task(cmd_name)
        return super().get_command(ctx, cmd_name)

    def _of_task(self, task: str) -> Any:
        from ebjr_det.api.saved_outputs import SavedOutputs
        from ebjr_det.tasks import load_task

        plugin, run, verb = load_task(task), self.run, str(self.name)
        own = {name: option for name, option in plugin.replay_options.items() if verb in option.verbs}

        def call(references: tuple[str, ...], **values: Any) -> None:
            from ebjr_det.api.references import ReferenceFile

            files = {name: values.pop(f"file_{name}") for name in plugin.replay_files}
            options = {name: values.pop(name) for name in own}
            outputs = SavedOutputs(
                task,
                files,
                [ReferenceFile.parse(text) for text in references],
                {name: value for name, value in options.items() if value not in (None, False)},
            )
            run(outputs, **values)

        files = [
            click.option(file.flag, f"file_{name}", type=PATH, required=True, help=file.help)
            for name, file in plugin.replay_files.items()
        ]
        options = [
            click.option(option.flag, name, is_flag=True, help=option.help)
            if option.kind is bool
            else click.option(option.flag, name, type=option.kind, help=option.help)
            for name, option in own.items()
        ]
        call.__doc__ = self.wording(plugin.replay_inputs)
        return click.command(task)(together(*files, *options, self.options(plugin.bootstrap))(call))


def task_group(
    name: str, options: Callable[[int], Any], wording: Callable[[str], str]
) -> Callable[[Run], TaskGroup]:
    """A decorator: a function of saved outputs and options -> a `TaskGroup` that runs it; see there."""

    def decorate(run: Run) -> TaskGroup:
        group = TaskGroup(name=name, help=run.__doc__)
        group.run, group.options, group.wording = run, options, wording
        return group

    return decorate
