#!/usr/bin/env python3
"""The master: reads commands, has the cluster carry them out, prints what they answer.

May live here: the command line, reading scripts, what is written to stdout and stderr, signals.
May not: what a command means (control/commands.py) or does (control/cluster.py); the prompt (console/prompt.py).
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # not there by itself after python -P

import environment

environment.enter(__name__)

import argparse
import errno
import re
import select
import signal
import stat
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from control import commands
from control.no_history import NoHistory
from control.script import Script, Step, wait_for
from rpc import tracing

if TYPE_CHECKING:
    from console.progress import Progress
    from console.prompt import Prompt
    from control.cluster import Cluster
    from control.settings import Settings
    from groups import Group

__version__ = "0.1.0"

SHORTEST_TIMEOUT_SECONDS = 0.1
"""Less would be taken up by an ordinary call on a busy machine."""

GROUP_STEPS = 1000
GROUP_BYTES = 1 << 20
"""How many commands, and about how many bytes of keys and values, are under way at once at most."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that end a run; at the prompt, SIGINT does not."""


NO_MEMORY = "could not be started: no memory is left"


class _Stop(BaseException):
    """A signal that ends the run."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


class _OutputGone(Exception):
    """Nobody reads stdout any more, or it takes no more; the text says why, unless that is an ordinary end."""


class _CannotBegin(Exception):
    """The run can't begin; the text says why."""


class Master:
    """One run: commands in, answers out, errors counted."""

    def __init__(self, pipeline: bool, quiet: bool = False, show: bool = False) -> None:
        """*pipeline*: whether several puts and gets may be under way at once. *quiet*: never show progress.

        *show*: show each line of a script as it runs; then one at a time is under way.
        """
        self.pipeline = pipeline and not show
        self.quiet = quiet or show
        self._shown = _dressed_for(1) if show else None
        self.dress: Callable[[str], str] = str
        """How an error or a warning is shown: the prompt has colours for them."""
        self.cluster: Cluster
        self.history = NoHistory()
        self.failed = False
        """Whether there was any error."""
        self._where = ""
        self._command = ""

    # -- output --------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Show an error or a warning."""
        _say(text, self.dress)

    def error(self, text: str) -> None:
        """One line on stderr, which says where in the script."""
        self.failed = True
        tracing.event("error", text=f"{self._where}{text}")
        self.say(f"error: {self._where}{text}")

    def error_of_command(self, text: str) -> None:
        """Report an error of the command that is being carried out."""
        self.error(f"{self._command}: {text}")

    def internal_error(self, name: str, error: Exception) -> None:
        """Report a mistake of ours in what *name* says; the run goes on."""
        self.error(f"{name}: {_internal(error)}")

    def death(self, ident: int, text: str) -> None:
        """A process has died: an error of the command that has noticed it."""
        self.history.notice("died", [ident], text)
        self.error_of_command(text)

    def warning(self, text: str) -> None:
        """Report what is no error; it is about the command that is being carried out, if there is one."""
        self.history.notice("warning", [], text)
        placed = f"{self._where}{self._command}: {text}" if self._command else text
        tracing.event("warning", text=placed)
        self.say(f"warning: {placed}")

    def carrying_out(self, name: str) -> None:
        """Errors are about this command from now on."""
        self._command = name

    # -- scripts -------------------------------------------------------------------------------------------

    def run_file(self, name: str) -> None:
        """Carry out the commands in a file, or those from standard input for "-"."""
        if name == "-":
            self.run_script(0, None)
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

    def run_script(self, fd: int, name: str | None) -> None:
        """Carry out the commands read from *fd*; errors name the file where *name* is given."""
        script = Script(fd, f"{name}: line" if name else "line", self._show if self._shown else None)
        progress = None
        if not self.quiet and os.isatty(2):
            from console.progress import progress_of

            progress = progress_of(fd)
        with _hidden_when_writing(progress):
            self._run_to_end(script, progress)
        self._where = ""
        if script.failure:
            self.error(f"{name or 'standard input'}: {script.failure}")

    def _show(self, line: bytes) -> None:
        """Write a line of a script to stdout, where its answer is to follow."""
        assert self._shown is not None
        _write_all(1, self._shown(line))

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
        return self.pipeline and step.command is not None and self.cluster.can_group(step.command)

    def _run_steps(self, steps: list[Step], script: Script) -> list[Step]:
        """Carry out steps, at once if they can be; returns the next ones, if they were read meanwhile."""
        if len(steps) == 1:
            self._run_step(steps[0])
            return []
        self._begin(steps[0])
        self.cluster.notice_deaths()
        group = self._start_group(steps)
        if group is None:
            for step in steps:
                self._run_step(step)
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

        printed: list[bytes] = []
        try:
            for step, outcome in zip(steps, self.cluster.finish_group(group), strict=True):
                if not isinstance(outcome, Undone):
                    assert step.command is not None
                    printed += self.cluster.printed(step.command, outcome)
                    self.history.complete(step.command, outcome)
                    continue
                self._print(printed)
                printed.clear()
                self._run_step(step, outcome.timestamp)
        finally:
            self.cluster.release_group(group)
        self._print(printed)

    def _run_step(self, step: Step, timestamp: int | None = None) -> None:
        self._begin(step)
        if step.command is None:
            self.error(step.error)
        else:
            self.run_command(step.command, timestamp)

    def _begin(self, step: Step) -> None:
        self._where = f"{step.where}: "
        self._command = step.command.name if step.command else ""

    def run_line(self, line: bytes) -> bool:
        """Carry out one line; returns whether there was no error."""
        failed, self.failed = self.failed, False
        try:
            command = commands.parse(line)
            if command is not None:
                self.run_command(command)
        except commands.CommandError as error:
            self.error(str(error))
        succeeded = not self.failed
        self.failed = failed or not succeeded
        return succeeded

    def run_command(self, command: commands.Command, timestamp: int | None = None) -> None:
        """Carry out one command, and print what it answers. *timestamp*: as in `Cluster.execute`."""
        self._command = command.name
        tracing.event("command", where=self._where.removesuffix(": "), text=command.line)
        if not self.history.under_way:
            self.history.invoke([command])
        try:
            outcome = self.cluster.execute(command, timestamp)
            pieces = self.cluster.printed(command, outcome)
        except commands.CommandError as error:
            self.history.fail(command, error)
            self.error_of_command(str(error))
        except Exception as error:
            why = _given_up(command.name) if _is_interruption(error) else _internal(error)
            self.history.lose_sight(command, why)
            self.error_of_command(why)
        else:
            self.history.complete(command, outcome)
            self._print(pieces)

    def _print(self, pieces: list[bytes]) -> None:
        """Write to stdout; what is printed stands in the history before."""
        self.history.flush()
        if pieces:
            printed = b"".join(pieces)
            tracing.event("printed", text=printed)
            _write_all(1, printed)


def _dressed_for(fd: int) -> Callable[[bytes], bytes]:
    """How `--show` shows a line of a script: a command behind `> `, the rest as it is; at a terminal, with colours."""
    is_plain = not os.isatty(fd) or os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("", "dumb", "unknown")
    dim, bold, plain = (b"", b"", b"") if is_plain else (b"\x1b[2m", b"\x1b[1m", b"\x1b[0m")

    def dressed(line: bytes) -> bytes:
        text = line.strip(b" \t")
        if text and not text.startswith(b"#"):
            return dim + b"> " + plain + bold + text + plain + b"\n"
        return dim + line + plain + b"\n" if text else b"\n"

    return dressed


def _internal(error: Exception) -> str:
    """What to say of a mistake of ours."""
    if "DAADKVS_DEBUG" in os.environ:
        traceback.print_exc()
    if isinstance(error, MemoryError):
        return "no memory is left"
    text = str(error).strip().partition("\n")[0]
    return f"internal error: {type(error).__name__}: {text}"


def _given_up(name: str) -> str:
    """What to say of a command that nobody waits for any more."""
    return "gave up waiting" + ("" if name in ("get", "printStore") else "; it may still be carried out")


def _is_interruption(error: Exception) -> bool:
    from rpc import transport

    if isinstance(error, transport.Interrupted):
        transport.interrupt_taken()
        return True
    return False


_progress: Progress | None = None
"""The line that is to be taken away before anything else is written to the terminal."""


@contextmanager
def _hidden_when_writing(progress: Progress | None) -> Iterator[None]:
    """Within this block, what is written takes the progress line's place; at its end the line is gone."""
    global _progress
    _progress = progress
    try:
        yield
    finally:
        _progress = None
        if progress is not None:
            progress.end()


def _say(text: str, dress: Callable[[str], str] = str) -> None:
    """One line on stderr, whatever a file's name may hold; where nobody reads that any more, it is lost."""
    line = "".join(f"\\x{ord(c):02x}" if c < " " else c for c in text)
    try:
        _write_all(2, (dress(line) + "\n").encode("utf-8", "surrogateescape"))
    except _OutputGone:
        pass


def _write_all(fd: int, data: bytes) -> None:
    if _progress is not None and data:
        _progress.hide()
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            try:
                done += os.write(fd, view[done:])
            except BlockingIOError:
                wait_for(fd, select.POLLOUT)
            except OSError as error:
                raise _OutputGone("" if error.errno == errno.EPIPE else error.strerror) from error


def _output_gone(gone: _OutputGone) -> int:
    """Say why nothing can be printed any more; the exit status for that."""
    if not str(gone):
        return 128 + signal.SIGPIPE
    _say(f"error: standard output: {gone}")
    return 1


# -- signals -----------------------------------------------------------------------------------------------


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    _ignore_signals()
    raise _Stop(signum)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    """What is raised where nobody can catch it, in a finalizer for example: no traceback, and a _Stop isn't lost."""
    if isinstance(found.exc_value, _Stop):
        stop = found.exc_value
        signal.signal(signal.SIGALRM, lambda *_: _stop(stop.signum, None))
        signal.setitimer(signal.ITIMER_REAL, 0.001)
    elif "DAADKVS_DEBUG" in os.environ:
        sys.__unraisablehook__(found)


def _ignore_signals() -> None:
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _install_signals(interrupt: signal._HANDLER) -> None:
    signal.signal(signal.SIGINT, interrupt)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(signum, _stop)


# -- the command line --------------------------------------------------------------------------------------


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"not a number of seconds from 0 to 86400: {text!r}")
    return seconds


def _bytes(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"not a number of bytes: {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("no folder is named")
    return Path(text)


def _file(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("no file is named")
    return Path(text)


class _Show(argparse.Action):
    """An option that prints a text and ends the program: with status 1 where that can't be printed."""

    def __init__(self, option_strings: list[str], dest: str, text: Callable[[], str], help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)
        self._text = text

    def __call__(self, *_: Any) -> NoReturn:
        try:
            _write_all(1, self._text().encode())
        except _OutputGone as gone:
            sys.exit(_output_gone(gone))
        sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {commands.usage(name)}\n      {form.summary}" for name, form in commands.COMMANDS.items())
    words = "\n".join(f"  {name}\n      {summary}" for name, summary in commands.PROMPT_WORDS.items())
    parser = argparse.ArgumentParser(
        prog="master.py",
        description="Daadkvs, a distributed key-value store that can be taken apart on one machine.\n"
        "Reads commands, one a line, from the given files or from standard input;\n"
        "at a terminal it shows a prompt. Answers go to stdout, errors to stderr.",
        epilog=f"commands:\n{listed}\n\nat the prompt, which completes words with Tab, also:\n{words}\n\n"
        "The exit status is 0, 1 if there was any error, 2 for wrong options,\n"
        "128 + n after signal n.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=_Show, text=parser.format_help, help="show this, and exit")
    version = f"Daadkvs {__version__}\n"
    parser.add_argument("scripts", metavar="FILE", nargs="*", help="scripts to run, in this order; - is standard input")
    _add_options_of_servers(parser)
    _add_options_of_master(parser)
    parser.add_argument("--version", action=_Show, text=lambda: version, help="show which version this is, and exit")
    return parser


def _add_options_of_servers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=_folder,
        help="keep the stores in DIR, for a later run (default: they go with the run)",
    )
    parser.add_argument(
        "--gossip-interval",
        metavar="SECONDS",
        type=_seconds,
        default=1.0,
        help="how long things must be quiet before servers gossip; 0 turns gossip off (default: 1)",
    )
    parser.add_argument(
        "--fsync",
        choices=("always", "interval", "never"),
        default="never",
        help="when logs are forced to the disk: before each acknowledgement, once a second, or when the system "
        "sees fit (default); what a server's death spares is the same with all three",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=10.0,
        help="after how long without progress a server is taken for dead, and killed (default: 10; within stabilize "
        "2 s are enough)",
    )


def _add_options_of_master(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--show",
        action="store_true",
        help="show each line of a script as it runs, with its answer under it, all on stdout (the prompt shows the "
        "lines anyway)",
    )
    parser.add_argument(
        "--no-pipeline",
        action="store_true",
        help="never have several puts and gets under way at once; what is printed is the same, only later",
    )
    parser.add_argument(
        "--trace",
        metavar="DIR",
        type=_folder,
        help="write what every process does into DIR, with its vector clock; scripts/report.py makes a page of it",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="never show how far a script has come; without it, a script from a file that takes more than a second "
        "shows one line on stderr where that is a terminal, which is gone at the end",
    )
    parser.add_argument(
        "--history",
        metavar="FILE",
        type=_file,
        help="write what is asked and answered into FILE, as JSON Lines, for scripts/check.py (a FILE that exists is "
        "overwritten)",
    )
    # For tests alone: a server gives a group up whose answers have more bytes than that. Nobody can tell.
    parser.add_argument("--group-limit", metavar="BYTES", type=_bytes, help=argparse.SUPPRESS)


def _check_scripts(names: list[str]) -> None:
    """Raises _CannotBegin where one of the scripts can't be read."""
    for name in names:
        try:
            if name == "-" or stat.S_ISFIFO(os.stat(name).st_mode):
                continue
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.read(fd, 0)
            finally:
                os.close(fd)
        except OSError as error:
            raise _CannotBegin(f"{name}: {error.strerror}") from error


def _absolute(path: Path) -> Path:
    """The path from the root. Raises _CannotBegin where there is no current folder any more."""
    try:
        return path.absolute()
    except OSError as error:
        raise _CannotBegin(f"{path}: {error.strerror}") from error


def _fill_closed_streams() -> None:
    """A closed standard stream would become somebody's socket. What takes its place can't be used either."""
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)


def main() -> int:
    """Run; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it ends a run also where the shell has it ignored
    sys.unraisablehook = _unraisable
    _fill_closed_streams()
    os.umask(0o077)  # whatever the user's is: what a run makes is for this user alone, and can be opened again
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.timeout < SHORTEST_TIMEOUT_SECONDS:
        parser.error(f"argument --timeout: must be at least {SHORTEST_TIMEOUT_SECONDS:g}")
    try:
        _check_scripts(arguments.scripts)
        return _run(arguments)
    except _CannotBegin as error:
        _say(f"error: {error}")
        return 2


def _run(arguments: argparse.Namespace) -> int:
    """One run, from its start to its end; returns the exit status. Raises _CannotBegin."""
    _import_cluster()
    settings = _settings(arguments)
    _enable_trace(arguments)
    master = Master(not arguments.no_pipeline, arguments.quiet, arguments.show)
    prompt = _prompt(arguments, master)
    # From here on there is something to clean up; a signal waits until it is known what.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    _install_signals(prompt.interrupt if prompt else _stop)
    master.cluster = _start_cluster(settings, master)
    try:
        status = _run_to_end(arguments, master, prompt)
    finally:
        _ignore_signals()
        master.cluster.close()
    if tracing.failure:
        master.say(f"warning: {arguments.trace}: {tracing.failure}; the trace ends before the run")
    return status


def _import_cluster() -> None:
    """Import what only a run needs: by now it is certain that there is to be one. Raises _CannotBegin."""
    try:
        import control.cluster  # noqa: F401
    except ImportError as error:
        raise _CannotBegin(environment.culprit(error)) from error
    except MemoryError as error:
        raise _CannotBegin(NO_MEMORY) from error


def _settings(arguments: argparse.Namespace) -> Settings:
    from control.settings import Settings

    settings = Settings(
        arguments.data_dir and _absolute(arguments.data_dir),
        arguments.gossip_interval,
        arguments.fsync,
        arguments.timeout,
        arguments.history is not None,
    )
    return settings if arguments.group_limit is None else settings._replace(group_limit=arguments.group_limit)


def _prompt(arguments: argparse.Namespace, master: Master) -> Prompt | None:
    """The prompt, where a person is to be asked for commands."""
    if arguments.scripts or not os.isatty(0):
        return None
    from console.prompt import Prompt

    return Prompt(master)


def _start_cluster(settings: Settings, master: Master) -> Cluster:
    """Raises _CannotBegin."""
    from control.cluster import Cluster
    from storage import StorageError

    try:
        return Cluster(settings, master.death, master.warning)
    except StorageError as error:
        raise _CannotBegin(str(error)) from error
    except OSError as error:
        raise _CannotBegin(f"{error.filename or 'could not be started'}: {error.strerror}") from error
    except MemoryError as error:
        raise _CannotBegin(NO_MEMORY) from error


def _run_to_end(arguments: argparse.Namespace, master: Master, prompt: Prompt | None) -> int:
    """Carry out all commands; returns the exit status. Raises _CannotBegin."""
    try:
        # Not before the cluster has forked, so that no other process holds these files, and that a run that can't
        # begin leaves an older history as it is.
        _begin_trace(arguments)
        if arguments.history:
            master.history = _begin_history(arguments, master)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        _carry_out(arguments.scripts or ["-"], master, prompt)
        return 1 if master.failed else 0
    except _Stop as stop:
        return 128 + stop.signum
    except _OutputGone as gone:
        return _output_gone(gone)
    except _CannotBegin:
        raise
    except Exception as error:  # a mistake of ours between two commands: the run ends, but in good order
        master.error(_internal(error))
        return 1


def _carry_out(scripts: list[str], master: Master, prompt: Prompt | None) -> None:
    """Carry out the scripts, or what is said at the prompt."""
    names = ["standard input" if name == "-" else name for name in scripts]
    sources = ["the prompt"] if prompt else names
    tracing.event("run", version=__version__, options=sys.argv[1:], scripts=sources)
    for text in master.cluster.found:
        master.warning(text)
    if prompt is not None:
        prompt.run(f"Daadkvs {__version__}. Type help for the commands, exit or Ctrl-D to end.")
        return
    for name in scripts:
        master.run_file(name)


def _enable_trace(arguments: argparse.Namespace) -> None:
    """Raises _CannotBegin."""
    if arguments.trace:
        try:
            tracing.enable(_absolute(arguments.trace))
        except OSError as error:
            raise _CannotBegin(f"{arguments.trace}: {error.strerror}") from error


def _begin_trace(arguments: argparse.Namespace) -> None:
    """Raises _CannotBegin where the file can't be written."""
    try:
        tracing.clear()
        tracing.begin("master")
    except OSError as error:
        raise _CannotBegin(f"{arguments.trace}: {error.strerror}") from error


def _begin_history(arguments: argparse.Namespace, master: Master) -> NoHistory:
    """Raises _CannotBegin where the file can't be written, or is one of the scripts."""
    from control.history import History

    path = arguments.history
    try:
        scripts = [name for name in arguments.scripts if name != "-"]
        if any(os.path.exists(path) and os.path.samefile(path, name) for name in scripts):
            raise _CannotBegin(f"{path}: this is a script to run; its history would overwrite it")
        options = {
            "version": __version__,
            "gossip_interval": arguments.gossip_interval,
            "fsync": arguments.fsync,
            "timeout": arguments.timeout,
            "pipeline": master.pipeline,
            "kept_stores": arguments.data_dir is not None,
        }
        return History(path, options, lambda text: master.say(f"warning: {text}"))
    except OSError as error:
        raise _CannotBegin(f"{path}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
