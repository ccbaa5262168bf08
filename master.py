#!/usr/bin/env python3
"""The master: reads commands, has the cluster carry them out, prints what they answer.

May live here: how a run begins and ends, carrying out scripts, and who is told of what came of each command.
May not: what a command means (control/commands.py) or does (control/cluster.py); the prompt (console/prompt.py).
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # not there by itself after python -P

from console import environment

environment.enter(__name__)

import gc
import itertools

if __name__ == "__main__":
    gc.disable()  # what is imported is no garbage; `_run` enables it again

import signal
from typing import TYPE_CHECKING

from console.failures import given_up, internal, is_interruption
from console.options import Arguments, CannotBegin, check_files, settings_of
from console.output import (
    OutputGone,
    dressed_for,
    fill_closed_streams,
    hidden_when_writing,
    output_gone,
    say,
    write_all,
)
from console.signals import SIGNALS, Stop, ignore_signals, install_signals, restore_signals, stop, unraisable
from console.text_output import TextOutput
from control import commands
from control.no_history import NoHistory
from control.script import Script, Step
from rpc import tracing

if TYPE_CHECKING:
    from console.progress import Progress
    from console.prompt import Prompt
    from control.cluster import Cluster
    from control.settings import Settings
    from groups import Group

__version__ = "0.1.0"

GROUP_STEPS = 1000
GROUP_BYTES = 1 << 20
"""How many commands, and about how many bytes of keys and values, are under way at once at most."""

NO_MEMORY = "could not be started: no memory is left"


class Master:
    """One run: commands in, answers out, errors counted."""

    def __init__(self, pipeline: bool, quiet: bool = False, show: bool = False) -> None:
        """*pipeline*: whether several puts and gets may be under way at once. *quiet*: never show progress.

        *show*: show each line of a script as it runs; then one at a time is under way.
        """
        self.pipeline = pipeline and not show
        self.quiet = quiet or show
        self._shown = dressed_for(1) if show else None
        self.for_programs, self.output = False, TextOutput()
        self.cluster: Cluster
        self.history = NoHistory()
        self.failed = False
        """Whether there was any error."""
        self._where = ""
        self._command = ""

    # -- output --------------------------------------------------------------------------------------------

    def speak_json(self) -> None:
        """Speak JSON from now on, to a program."""
        from console.json_output import JsonOutput

        self.for_programs = True
        self.output = JsonOutput(lambda: self.cluster)

    def error(self, text: str) -> None:
        """Report an error, in the line of the script that is under way, if there is one."""
        self._fail(text, f"{self._where}{text}")

    def error_of_command(self, text: str, uncertain: Exception | None = None) -> None:
        """Report an error of the command that is being carried out; *uncertain*: as in `TextOutput.fail`."""
        self._fail(text, f"{self._where}{self._command}: {text}", uncertain)

    def _fail(self, text: str, placed: str, uncertain: Exception | None = None) -> None:
        self.failed = True
        tracing.event("error", text=placed)
        self.output.fail(text, placed, uncertain)

    def internal_error(self, name: str, error: Exception) -> None:
        """Report a mistake of ours in what *name* says; the run goes on."""
        self.error(f"{name}: {internal(error)}")

    def death(self, ident: int, text: str) -> None:
        """A process has died: an error of the command that has noticed it."""
        self.history.notice("died", [ident], text)
        self.failed = True
        placed = f"{self._where}{self._command}: {text}"
        tracing.event("error", text=placed)
        self.output.died(ident, text, placed)

    def warning(self, text: str) -> None:
        """Report what is no error; it is about the command that is being carried out, if there is one."""
        self.history.notice("warning", [], text)
        placed = f"{self._where}{self._command}: {text}" if self._command else text
        tracing.event("warning", text=placed)
        self.output.warn(text, placed)

    def carrying_out(self, name: str) -> None:
        """Errors are about this command of the prompt from now on."""
        self._where, self._command = "", name

    # -- scripts -------------------------------------------------------------------------------------------

    def run_file(self, name: str, begun: Script | None = None) -> None:
        """Carry out the commands in a file, or those from standard input for "-", where *begun* may have read some."""
        if name == "-":
            self.run_script(0, None, begun)
            return
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:  # it could be read before
            self.error(f"{name}: {error.strerror}")
            return
        try:
            self.run_script(fd, name)
        finally:
            os.close(fd)

    def run_script(self, fd: int, name: str | None, begun: Script | None = None) -> None:
        """Carry out the commands read from *fd*, or by *begun*; errors name the file where *name* is given."""
        show = self._show if self._shown else None
        script = begun or Script(fd, f"{name}: line" if name else "line", show, self.for_programs)
        self.output.begin_file(name)
        progress = None
        if not self.quiet and os.isatty(2):
            from console.progress import progress_of

            progress = progress_of(fd)
        with hidden_when_writing(progress):
            self._run_to_end(script, progress)
        self._where = ""
        self.output.begin_file(name)
        if script.failure:
            self.error(f"{name or 'standard input'}: {script.failure}")
            self._flush()

    def _show(self, line: bytes) -> None:
        """Write a line of a script to stdout, where its answer is to follow."""
        assert self._shown is not None
        write_all(1, self._shown(line))

    def _run_to_end(self, script: Script, progress: Progress | None) -> None:
        steps: list[Step] = []
        while True:
            if not steps:
                step = script.next()
                if step is None:
                    return
                steps.append(step)
            self._gather(script, steps)
            count = len(steps)
            steps = self._run_steps(steps, script)
            if progress is not None:
                progress.done(count, script.position)

    def _gather(self, script: Script, steps: list[Step]) -> None:
        """Add to *steps* what is waiting already and can be under way with them; never blocks.

        Where *steps* is empty, one step that can't be under way with others may be added.
        """
        if steps and not self._can_group(steps[-1]):
            return
        size = sum(step.size for step in steps)
        while len(steps) < GROUP_STEPS and size < GROUP_BYTES and script.ready():
            step = script.next()
            assert step is not None
            if not self._can_group(step):
                if steps:
                    script.put_back(step)
                else:
                    steps.append(step)
                return
            steps.append(step)
            size += step.size

    def _can_group(self, step: Step) -> bool:
        return (
            self.pipeline
            and step.command is not None
            and self.cluster.can_group(step.command)
            and self.output.may_group(step.command)
        )

    def _run_steps(self, steps: list[Step], script: Script) -> list[Step]:
        """Carry out steps, at once if they can be; returns the next ones, if they were read meanwhile."""
        if len(steps) == 1:
            if self.pipeline:
                command = steps[0].command
                self.cluster.expect(itertools.chain([command], script.upcoming()) if command else ())
            self.run_step(steps[0])
            return []
        self._begin(steps)
        self.cluster.notice_deaths()
        group = self._start_group(steps)
        if group is None:
            for step in steps:
                self.run_step(step)
            return []
        following: list[Step] = []
        self._gather(script, following)
        self._finish_group(group, steps)
        return following

    def _start_group(self, steps: list[Step]) -> Group | None:
        """Start these steps at once, if that can still be done; deaths may have changed it."""
        grouped = [step.command for step in steps if step.command and self._can_group(step)]
        if len(grouped) < len(steps):
            return None
        self.history.invoke(grouped)
        if tracing.on:
            listed = [[step.where, step.command.line] for step in steps if step.command]
            tracing.event("group", commands=listed)
        return self.cluster.start_group(grouped)

    def _finish_group(self, group: Group, steps: list[Step]) -> None:
        """Print what the commands of a group answer, in their order; carry out those that it left undone."""
        from groups import Undone  # not at the top: it is there once there is a cluster

        try:
            for step, outcome in zip(steps, self.cluster.finish_group(group), strict=True):
                if not isinstance(outcome, Undone):
                    assert step.command is not None
                    pieces = self.cluster.printed(step.command, outcome)
                    self.history.complete(step.command, outcome)
                    self.output.answer(step, step.command, outcome, pieces)
                    continue
                self._flush()
                self.run_step(step, outcome.timestamp)
        finally:
            self.cluster.release_group(group)
        self._flush()

    def run_step(self, step: Step, timestamp: int | None = None) -> None:
        """Carry out one step alone. *timestamp*: as in `Cluster.execute`."""
        if timestamp is None:
            self._begin([step])
        self._go_on_with(step)
        if step.command is None:
            if step.error:
                self.error(step.error)
            else:
                self.output.skip(step)
            self._flush()
        elif step.command.name == commands.STATUS:
            self._tell_status(step)
        else:
            self.run_command(step.command, timestamp, step)

    def _tell_status(self, step: Step) -> None:
        try:
            self.output.status(step, self.cluster.status())
        except Exception as error:  # a mistake of ours: that is no reason to end somebody's run
            self.internal_error(commands.STATUS, error)
        self._flush()

    def _begin(self, steps: list[Step]) -> None:
        self.output.begin(steps)
        self._go_on_with(steps[0])

    def _go_on_with(self, step: Step) -> None:
        self._where = f"{step.where}: "
        self._command = step.command.name if step.command else ""
        self.output.under_way(step)

    def run_line(self, line: bytes, where: str = "") -> bool:
        """Carry out one line, which stands at *where*; returns whether there was no error. Errors name no place."""
        failed, self.failed = self.failed, False
        self._where = ""
        try:
            command = commands.parse(line)
            if command is not None:
                step = Step(where, command)
                self.output.under_way(step)
                self.run_command(command, step=step)
        except commands.CommandError as error:
            self.error(str(error))
        succeeded = not self.failed
        self.failed = failed or not succeeded
        return succeeded

    def run_command(self, command: commands.Command, timestamp: int | None = None, step: Step | None = None) -> None:
        """Carry out one command, and tell what it answers. *timestamp*: as in `Cluster.execute`."""
        self._command = command.name
        if tracing.on:
            tracing.event("command", where=step.where if step else "", text=command.line)
        if not self.history.under_way:
            self.history.invoke([command])
        try:
            outcome = self.cluster.execute(command, timestamp)
            pieces = self.cluster.printed(command, outcome)
        except commands.CommandError as error:
            self.history.fail(command, error)
            self.error_of_command(str(error), error if isinstance(error, commands.Uncertain) else None)
        except Exception as error:
            why = given_up(command.name) if is_interruption(error) else internal(error)
            self.history.lose_sight(command, why)
            self.error_of_command(why, error)
        else:
            self.history.complete(command, outcome)
            self.output.answer(step, command, outcome, pieces)
        self._flush()

    def _flush(self) -> None:
        """Show what has been answered; what is shown stands in the history before."""
        self.history.flush()
        self.output.flush()


def main() -> int:
    """Run; returns the exit status."""
    restore_signals()
    sys.unraisablehook = unraisable
    fill_closed_streams()
    os.umask(0o077)  # whatever the user's is: what a run makes is for this user alone, and can be opened again
    arguments = _arguments()
    try:
        check_files(arguments.scripts)
        return _run(arguments)
    except CannotBegin as error:
        say(f"error: {error}")
        return 2


def _arguments() -> Arguments:
    """What the command line says. Ends the program where it is wrong."""
    if len(sys.argv) == 1:
        return Arguments()
    from console.command_line import parse  # not at the top: it takes long to import, and most runs have no options

    return parse(__version__)


def _run(arguments: Arguments) -> int:
    """One run, from its start to its end; returns the exit status. Raises CannotBegin."""
    script = _begun_script()
    if script is not None and script.is_over:
        return 0  # nothing has to be started for this
    _import_cluster()
    settings = settings_of(arguments)
    if arguments.trace:
        from console.recording import enable_trace  # not at the top: most runs record nothing

        enable_trace(arguments.trace)
    master = Master(not arguments.no_pipeline, arguments.quiet, arguments.show)
    prompt = _prompt(arguments, master)
    # From here on there is something to clean up; a signal waits until it is known what.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    install_signals(prompt.interrupt if prompt else stop)
    master.cluster = _start_cluster(settings, master)
    gc.freeze()
    gc.enable()
    try:
        status = _run_to_end(arguments, master, script, prompt)
    finally:
        ignore_signals()
        master.cluster.close()
    if tracing.failure:
        ended = f"{tracing.folder()}: {tracing.failure}; the trace ends before the run"
        master.output.warn(ended, ended)
    return status


def _begun_script() -> Script | None:
    """The script on standard input, which may be read a little now; None unless it is all that there is."""
    return Script(0, "line") if len(sys.argv) == 1 and not os.isatty(0) else None


def _import_cluster() -> None:
    """Import what only a run needs: by now it is certain that there is to be one. Raises CannotBegin."""
    try:
        import control.cluster  # noqa: F401
    except ImportError as error:
        raise CannotBegin(environment.culprit(error)) from error
    except MemoryError as error:
        raise CannotBegin(NO_MEMORY) from error


def _prompt(arguments: Arguments, master: Master) -> Prompt | None:
    """The prompt; None if the commands come from a file or a program."""
    if arguments.scripts or arguments.json or not os.isatty(0):
        return None
    from console.prompt import Prompt

    return Prompt(master)


def _start_cluster(settings: Settings, master: Master) -> Cluster:
    """Raises CannotBegin."""
    from control.cluster import Cluster
    from control.hosts import EngineError
    from storage import StorageError

    try:
        return Cluster(settings, master.death, master.warning)
    except (StorageError, EngineError) as error:
        raise CannotBegin(str(error)) from error
    except OSError as error:
        raise CannotBegin(f"{error.filename or 'could not be started'}: {error.strerror}") from error
    except MemoryError as error:
        raise CannotBegin(NO_MEMORY) from error


def _run_to_end(arguments: Arguments, master: Master, script: Script | None, prompt: Prompt | None) -> int:
    """Carry out all commands; returns the exit status. Raises CannotBegin."""
    try:
        # Not before the cluster has forked, so that no other process holds these files, that a run that can't begin
        # leaves an older history as it is, and that the spawner loads its part at the same time.
        if arguments.json:
            master.speak_json()
        history = arguments.history or (master.cluster.record / "history" if arguments.record else None)
        if history or tracing.on:
            from console import recording

            recording.begin_trace()
        if history:
            facts = {"version": __version__, "pipeline": master.pipeline}
            master.history = recording.begin_history(
                history, arguments, facts, lambda text: master.output.warn(text, text)
            )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        _carry_out(arguments.scripts or ["-"], master, script, prompt)
        return 1 if master.failed else 0
    except Stop as end:
        return 128 + end.signum
    except OutputGone as gone:
        return output_gone(gone)
    except CannotBegin:
        raise
    except Exception as error:  # a mistake of ours between two commands: the run ends, but in good order
        master.error(internal(error))
        return 1


def _carry_out(scripts: list[str], master: Master, script: Script | None, prompt: Prompt | None) -> None:
    """Carry out the scripts, or what is said at the prompt."""
    names = ["standard input" if name == "-" else name for name in scripts]
    sources = ["the prompt"] if prompt else names
    tracing.event("run", version=__version__, options=sys.argv[1:], scripts=sources)
    told = {"trace": tracing.folder(), "history": master.history.path}
    facts = {name: os.path.abspath(path) for name, path in told.items() if path is not None}
    master.output.begin_run(version=__version__, **facts)
    for text in master.cluster.found:
        master.warning(text)
    if prompt is not None:
        prompt.run(f"Daadkvs {__version__}. Type help for the commands, exit or Ctrl-D to end.")
        return
    for name in scripts:
        master.run_file(name, script)


if __name__ == "__main__":
    os._exit(main())  # all has been written and closed; Python would only take a while to forget its modules
