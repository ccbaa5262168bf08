"""The command line of the master: its options, their help, and which values they accept.

May live here: the parser. May not: the defaults (console/options.py). A run without options does without this room,
because importing argparse takes longer than using it. Nothing of an option is carried out here.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from console.options import ENGINE, Arguments
from console.output import OutputGone, output_gone, write_all
from control import commands
from shape import Shape, loss_of, time_of

__all__ = ["parse", "reading"]

Value = TypeVar("Value")

COMMAND_VARIABLE = "DAADKVS_COMMAND"
"""The environment variable by which ./master says how it was called."""

SHORTEST_TIMEOUT_SECONDS = 0.1
"""The smallest --timeout. An ordinary call may take nearly as long on a busy machine."""

SHORTEST_HOST_TIMEOUT = 1.0
"""The smallest --host-timeout: the system looks for signs of another machine once a second."""


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


def _engine(text: str) -> str:
    if not re.fullmatch(re.escape(ENGINE) + r"(tls|tcp)://[^/\s]+:[0-9]{1,5}", text):
        raise argparse.ArgumentTypeError(f"not of the form {ENGINE}tls://HOST:PORT: {text!r}")
    return text


def _seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"not a number of 1 to 18 digits: {text!r}")
    return int(text)


def reading(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """A type for argparse: what *read* makes of a text; its ValueError is the error that is shown."""

    def read_or_explain(text: str) -> Value:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_or_explain


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("no folder is named")
    return Path(text)


def _file(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("no file is named")
    return Path(text)


class _Show(argparse.Action):
    """An option that prints a text and ends the program, with status 1 if the text can't be printed."""

    def __init__(self, option_strings: list[str], dest: str, text: Callable[[], str], help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)
        self._text = text

    def __call__(self, *_: Any) -> NoReturn:
        try:
            write_all(1, self._text().encode())
        except OutputGone as gone:
            sys.exit(output_gone(gone))
        sys.exit(0)


def parse(version: str) -> Arguments:
    """The parsed command line, for a master of this *version*. Ends the program, with status 2, if it is wrong."""
    options = _parser(version)
    arguments = options.parse_args(namespace=Arguments())
    if arguments.timeout < SHORTEST_TIMEOUT_SECONDS:
        options.error(f"argument --timeout: must be at least {SHORTEST_TIMEOUT_SECONDS:g}")
    try:
        Shape.checked(arguments.delay, arguments.jitter, arguments.loss)
    except ValueError as error:
        options.error(f"argument --jitter: {error}")
    if arguments.json and arguments.show:
        options.error("argument --show: not allowed with argument --json")
    if arguments.record and not arguments.json:
        options.error("argument --record: only with --json, which says where the record is")
    _check_engine(options, arguments)
    return arguments


def _check_engine(options: argparse.ArgumentParser, arguments: Arguments) -> None:
    """End the program unless the options of --engine fit together."""
    files = {"--tls-ca": arguments.tls_ca, "--tls-cert": arguments.tls_cert, "--tls-key": arguments.tls_key}
    given = [option for option, path in files.items() if path is not None]
    if arguments.engine is None:
        others = {"--insecure-engine": arguments.insecure_engine, "--place": arguments.place is not None}
        for option in (*given, *(option for option, is_given in others.items() if is_given)):
            options.error(f"argument {option}: only with --engine")
    elif arguments.engine.startswith(f"{ENGINE}tls://"):
        for option in [option for option in files if option not in given]:
            options.error(f"argument {option}: needed for this --engine, whose scheduler is reached by TLS")
    elif not arguments.insecure_engine:
        options.error(
            "argument --engine: anybody in the network can use a scheduler without TLS, and so the machines of "
            "its cluster; --insecure-engine allows that"
        )
    elif given:
        options.error(f"argument {given[0]}: this --engine has a scheduler without TLS")
    if arguments.host_timeout < SHORTEST_HOST_TIMEOUT:
        options.error(f"argument --host-timeout: must be at least {SHORTEST_HOST_TIMEOUT:g}")


def _parser(version: str) -> argparse.ArgumentParser:
    listed = "\n".join(f"  {commands.usage(name)}\n      {form.summary}" for name, form in commands.COMMANDS.items())
    words = "\n".join(
        f"  {commands.prompt_usage(name)}\n      {summary}" for name, summary in commands.PROMPT_WORDS.items()
    )
    parser = argparse.ArgumentParser(
        prog=os.environ.get(COMMAND_VARIABLE),  # by default, the name of the file that was started
        description="Daadkvs, a distributed key-value store that can be taken apart on one machine.\n"
        "Reads commands, one a line, from the given files or from standard input;\n"
        "at a terminal it shows a prompt. Answers go to stdout, errors to stderr.",
        epilog=f"commands:\n{listed}\n\nfurther commands at the prompt, which completes words with Tab:\n{words}\n\n"
        "The exit status is 0, 1 if there was any error, 2 for wrong options,\n"
        "128 + n after signal n.",
        formatter_class=_formatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=_Show, text=parser.format_help, help="show this help, and exit")
    parser.add_argument("scripts", metavar="FILE", nargs="*", help="scripts to run, in this order; - is standard input")
    _add_options_of_servers(parser)
    _add_options_of_links(parser)
    _add_options_of_master(parser)
    _add_options_of_engine(parser)
    parser.add_argument(
        "--version", action=_Show, text=lambda: f"Daadkvs {version}\n", help="show the version, and exit"
    )
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    """What lays out the help. (To find out the width, argparse would import much, whether the help is shown or not.)"""
    said = os.environ.get("COLUMNS", "").lstrip("0")
    columns = int(said) if said.isdecimal() and len(said) < 6 else 0
    if not columns:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            pass  # it goes elsewhere
    return argparse.RawDescriptionHelpFormatter(prog, width=(columns or 80) - 2)


def _add_options_of_servers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=_folder,
        help="keep the stores in DIR, for a later run (default: they are removed at the end of the run)",
    )
    parser.add_argument(
        "--gossip-interval",
        metavar="SECONDS",
        type=_seconds,
        help="how long nothing new must reach a server before it gossips; 0 turns gossip off (default: 1)",
    )
    parser.add_argument(
        "--fsync",
        choices=("always", "interval", "never"),
        help="when logs are forced to the disk: before each acknowledgement, once a second, or whenever the system "
        "does so (default); with all three, what a server has acknowledged survives its death",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="after how long without progress a server counts as dead, and is killed (default: 10; at most 2 s "
        "within stabilize)",
    )


def _add_options_of_links(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--delay",
        metavar="TIME",
        type=reading(time_of),
        help="how late each message between two servers arrives, such as 20ms (default: 0ms)",
    )
    parser.add_argument(
        "--jitter",
        metavar="TIME",
        type=reading(time_of),
        help="by how much, at most, the delay of a message is shorter or longer, such as 5ms (default: 0ms)",
    )
    parser.add_argument(
        "--loss",
        metavar="PERCENT",
        type=reading(loss_of),
        help="how many of the messages between servers are lost, such as 2%% (default: 0%%); each is sent again",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=_seed,
        help="what delays and losses are drawn from (default: a random number, which the history tells)",
    )


def _add_options_of_master(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        help="for programs: write one JSON object to stdout for each line, when it is done, and nothing to stderr but "
        "what ends the run; docs/json.md has each field",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="with --json: keep a history and a trace, which go with the run; the first object says where they are",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="show each line of a script as it runs, with its answer under it, all on stdout (the prompt shows the "
        "lines anyway)",
    )
    parser.add_argument(
        "--no-pipeline",
        action="store_true",
        help="carry out one command at a time; the output is the same, but it takes longer",
    )
    parser.add_argument(
        "--trace",
        metavar="DIR",
        type=_folder,
        help="record what every process does in DIR, with its vector clock, for scripts/report.py",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="show no progress (by default, a script from a file that takes more than a second shows its progress on "
        "stderr, if that is a terminal; the line is removed at the end)",
    )
    parser.add_argument(
        "--history",
        metavar="FILE",
        type=_file,
        help="record all commands and their outcomes in FILE, as JSON Lines, for scripts/check.py (an existing FILE is "
        "overwritten)",
    )
    # Only for tests: a server gives up a group whose answers contain more bytes than this. What is printed is the same.
    parser.add_argument("--group-limit", metavar="BYTES", type=_bytes, help=argparse.SUPPRESS)


def _add_options_of_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several machines (docs/cluster.md)")
    group.add_argument(
        "--engine",
        metavar="dask:tls://HOST:PORT",
        type=_engine,
        help="place servers and clients on the machines of the Dask cluster with this scheduler",
    )
    group.add_argument("--tls-ca", metavar="FILE", type=_file, help="the certificate of the scheduler's authority")
    group.add_argument("--tls-cert", metavar="FILE", type=_file, help="a certificate that the scheduler accepts")
    group.add_argument("--tls-key", metavar="FILE", type=_file, help="the key of that certificate")
    group.add_argument(
        "--insecure-engine",
        action="store_true",
        help="allow dask:tcp://HOST:PORT, without TLS: whoever reaches the scheduler can run anything on its machines",
    )
    group.add_argument(
        "--place",
        metavar="FILE",
        type=_file,
        help="which process is on which host: lines such as `0-4: alice` (default: they take turns)",
    )
    group.add_argument(
        "--host-timeout",
        metavar="SECONDS",
        type=_seconds,
        help="after how long without a sign of it a host counts as lost, with all that is on it (default: 5)",
    )
