"""The scripts in tests/transcripts/*.txt, with their expected output, run against real processes.

A transcript is a script with what it prints:

    # A comment.
    @options --gossip-interval 0.01     options of the master; else --gossip-interval 0 (no gossip)
    get 5 colour                        a command
    + put 5 colour red                  a command that is sent together with the next one
    > colour:red                        what it prints on stdout, a line each
    ! get: client 5 is not running      its errors and warnings, without `error: line 3: `
    @kill server 3                      a failure from outside: @kill, @stop or @continue a process
    @await get 5 colour                 a command that is repeated until it prints what stands below it
    @restart                            end the master, and start one with the same options
    @damage server-3/log.0              flip a byte in the middle of a file below the data directory; where that is in
                                        the file depends on sizes, so what is reported reads `offset N: damage`
    @remove server-3                    remove a folder below the data directory

With a `{data}` in its options, a transcript has a data directory. Commands run one after another: each only when the
one before is done, unless they are sent together. At the end no process and no file may be left.

    python -m pytest tests/processes/test_transcripts.py --rewrite

writes what was printed into the files, to be read before it is committed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.transcripts import Ground, Story

TRANSCRIPTS = sorted((Path(__file__).parent.parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    lines = path.read_bytes().split(b"\n")
    told = Story(lines, Ground(tmp_path / "data")).tell()
    if pytestconfig.getoption("--rewrite"):
        path.write_bytes(b"\n".join(told))
    else:
        assert told == lines


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 25
