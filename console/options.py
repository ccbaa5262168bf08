"""The options of a master with their defaults, and the settings of a run that follow from them.

May live here: the options, as typed values. May not: parsing a command line (console/command_line.py), or carrying an
option out.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from control.settings import Engine, Settings

__all__ = ["ENGINE", "Arguments", "CannotBegin", "absolute", "check_files", "settings_of"]

ENGINE = "dask:"
"""How an --engine begins."""


class CannotBegin(Exception):
    """The run can't begin. The text says why."""


class Arguments:
    """A parsed command line. The values here are those of an empty one. Times are in seconds."""

    data_dir: Path | None = None
    gossip_interval = 1.0
    fsync = "never"
    timeout = 10.0
    json = False
    record = False
    show = False
    no_pipeline = False
    trace: Path | None = None
    quiet = False
    history: Path | None = None
    delay = 0.0
    jitter = 0.0
    loss = 0.0
    seed: int | None = None
    group_limit: int | None = None
    engine: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure_engine = False
    place: Path | None = None
    host_timeout = 5.0

    def __init__(self) -> None:
        self.scripts: list[str] = []


def check_files(names: list[str]) -> None:
    """Raise CannotBegin if one of these files can't be read; - is standard input."""
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
            raise CannotBegin(f"{name}: {error.strerror}") from error


def absolute(path: Path) -> Path:
    """The absolute path. Raises CannotBegin if the current folder does not exist any more."""
    try:
        return path.absolute()
    except OSError as error:
        raise CannotBegin(f"{path}: {error.strerror}") from error


def _engine_of(arguments: Arguments) -> Engine | None:
    """Raises CannotBegin if a file can't be read."""
    if arguments.engine is None:
        return None
    from control.settings import Engine

    files = [path and absolute(path) for path in (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)]
    check_files([str(path) for path in files if path])
    places = arguments.place and absolute(arguments.place)
    return Engine(arguments.engine.removeprefix(ENGINE), files[0], files[1], files[2], places, arguments.host_timeout)


def settings_of(arguments: Arguments) -> Settings:
    """The settings that follow from the options. If no seed is given, one is chosen. Raises CannotBegin."""
    from control.settings import Settings

    if arguments.seed is None:
        arguments.seed = int.from_bytes(os.urandom(4))
    settings = Settings(
        arguments.data_dir and absolute(arguments.data_dir),
        arguments.gossip_interval,
        arguments.fsync,
        arguments.timeout,
        arguments.history is not None or arguments.json,
        arguments.record,
        (arguments.delay, arguments.jitter, arguments.loss),
        arguments.seed,
        engine=_engine_of(arguments),
    )
    return settings if arguments.group_limit is None else settings._replace(group_limit=arguments.group_limit)
