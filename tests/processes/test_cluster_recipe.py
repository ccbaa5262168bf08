"""The recipe by hand of docs/cluster.md works as it is written, on hosts with these names."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checking.driver import ROOT, run, wait_until
from checking.lab.hosts import Host, Lab

pytestmark = pytest.mark.usefixtures("clusters_can_be_had")

NAMES = ("driver", "head", "alpha", "beta", "gamma")

ENVIRONMENT = ("env", f"PATH={Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
"""`dask` and `openssl` are found."""


def steps() -> list[tuple[str, str]]:
    """What is to be done in the recipe: (where, commands)."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    (section,) = re.findall(r"^## Recipe: by hand.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    found = re.findall(r"\bOn ([^.]*):\n\n((?:    .*\n|\n)+)", section)
    return [(where, re.sub("^    ", "", block, flags=re.MULTILINE)) for where, block in found]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(NAMES) as lab:
        yield lab


def in_shell(commands: str) -> tuple[str, ...]:
    return *ENVIRONMENT, "bash", "-euc", commands


def start_dask(host: Host, commands: str, until: str) -> None:
    host.start(*in_shell(commands), log="/tmp/log")
    log = host.path("/tmp/log")
    wait_until(lambda: until in log.read_text(), f"{until!r} on {host.name}")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_the_recipe_by_hand(lab: Lab) -> None:
    driver = lab["driver"]
    certificates, copies, scheduler, workers, master = steps()

    assert certificates[0] == "the driver"
    driver.do(*in_shell(certificates[1]))
    for name in NAMES:
        tls = f"daadkvs-tls/{name}"
        driver.do(*in_shell(f"cd && openssl verify -x509_strict -CAfile {tls}/ca.pem {tls}/me.pem"))

    assert copies[0] == "the driver"
    assert re.findall(r"scp \S+ (\S+) (\S+);?\n", copies[1]) == [("~/daadkvs-tls/$name", "$name:daadkvs-tls")]
    for name in NAMES[1:]:
        shutil.copytree(driver.path(f"/tmp/home/daadkvs-tls/{name}"), lab[name].path("/tmp/home/daadkvs-tls"))

    assert scheduler[0] == "head"
    start_dask(lab["head"], scheduler[1], "Scheduler at:")
    assert workers[0] == "alpha, on beta and on gamma"
    for name in ("alpha", "beta", "gamma"):
        start_dask(lab[name], workers[1], "Registered to:")

    assert master[0] == "the driver, in the checkout"
    printed = driver.do(*in_shell(f"cd {ROOT}\n" + master[1].replace("./master", f"{sys.executable} master.py")))
    assert printed.encode() == run((ROOT / "examples" / "tour.txt").read_bytes()).stdout
    assert printed
