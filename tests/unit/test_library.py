"""rpc/library.py: RPyC without the parts that nothing here uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from checking.driver import ROOT


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


def test_what_nothing_uses_is_not_imported() -> None:
    program = (
        "import sys, rpc.library; print(sys.modules.keys() & {'ssl', '_ssl', 'rpyc.utils', 'rpyc.cli', 'plumbum'})"
    )
    assert python(program) == "set()\n"


@pytest.mark.parametrize("before", ["", "import ssl; "])
def test_whoever_imports_rpyc_afterwards_gets_it_whole(before: str) -> None:
    program = (
        f"{before}import rpc.library, ssl, rpyc\n"
        "print(rpyc.Connection is rpc.library.Connection, rpyc.utils.server.ThreadedServer.__name__)\n"
        "print(rpyc.core.stream.Stream is rpc.library.Stream, ssl.OPENSSL_VERSION[:7])\n"
    )
    assert python(program) == "True ThreadedServer\nTrue OpenSSL\n"


def test_rpyc_that_was_imported_before_stays_as_it_is() -> None:
    program = "import rpyc; before = rpyc.core; import rpc.library; print(rpyc.core is before, rpyc.core.stream.ssl)"
    assert python(program).startswith("True <module 'ssl'")


def test_parts_of_a_package_without_the_package(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "__init__.py").write_text(
        "print('the package runs')\nfrom whole.part import part\nother = 2\n"
    )
    (tmp_path / "whole" / "part.py").write_text("part = 1\n")
    program = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "from rpc import library\n"
        "with library.parts_of('whole'):\n"
        "    from whole import part\n"
        "print(part.part)\n"
        "import whole\n"
        "print(whole.other, whole.part is part.part)\n"
    )
    assert python(program) == "1\nthe package runs\n2 True\n"


def test_parts_of_a_package_that_is_missing() -> None:
    program = (
        "from rpc import library\n"
        "try:\n"
        "    with library.parts_of('no_such_package'): pass\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    assert python(program) == "No module named 'no_such_package'\n"
