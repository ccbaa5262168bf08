"""The file of --place, the order of hosts, and what DIR remembers of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.data_directory import DataDirectory
from engine.placement import natural, parse
from storage import StorageError


def test_ids_and_ranges_are_placed_and_the_last_line_counts() -> None:
    places = parse(["# who is where", "", "0: alpha", " 1 - 3 :  beta two ", "2: gamma", "007: delta"])
    assert [places.of(ident) for ident in range(9)] == [
        "alpha", "beta two", "gamma", "beta two", None, None, None, "delta", None,
    ]  # fmt: skip
    assert parse([]).of(0) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0", "of the form"),
        ("0 alpha", "of the form"),
        ("0:", "of the form"),
        ("x: alpha", "of the form"),
        ("-1: alpha", "of the form"),
        ("1-: alpha", "of the form"),
        ("1-2-3: alpha", "of the form"),
        ("²: alpha", "of the form"),
        (f"{10**18}: alpha", "of the form"),
        ("3-2: alpha", "no ids are from 3 to 2"),
    ],
)
def test_a_line_that_places_nobody_is_named(line: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^line 2: .*{told}"):
        parse(["0: alpha", line])


def test_hosts_are_in_the_order_of_the_numbers_in_their_names() -> None:
    names = ["worker-10", "worker-2", "10.0.0.9", "10.0.0.10", "alpha", "2", "worker"]
    assert sorted(names, key=natural) == ["2", "10.0.0.9", "10.0.0.10", "alpha", "worker", "worker-2", "worker-10"]


def test_the_data_directory_remembers_hosts(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    assert data.read_hosts() == {}
    hosts = {0: "gamma", 10: "beta two/ä\n", 3: "10.0.0.3"}
    data.write_hosts(hosts)
    assert data.read_hosts() == hosts
    assert (tmp_path / "data" / "hosts").read_text().splitlines() == [
        "0 gamma",
        "3 10.0.0.3",
        "10 beta%20two%2F%C3%A4%0A",
    ]
    data.write_hosts({0: "alpha"})
    assert data.read_hosts() == {0: "alpha"}


@pytest.mark.parametrize("damaged", [b"0 alpha\n1\n", b"0 alpha\nx beta\n", b"0 alpha\n\n", b"\xff\n"])
def test_a_file_of_hosts_that_is_damaged_is_not_half_believed(tmp_path: Path, damaged: bytes) -> None:
    """Otherwise a server would start empty where its store is not."""
    data = DataDirectory(tmp_path / "data")
    (tmp_path / "data" / "hosts").write_bytes(damaged)
    with pytest.raises(StorageError, match="hosts: "):
        data.read_hosts()
