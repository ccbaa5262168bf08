"""Fixtures for tests of what is on disk: folders, and compactions after a few writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lives import Folders

import compaction


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    made = Folders(tmp_path)
    yield made
    made.close()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact early, and a few keys at a time."""
    monkeypatch.setattr(compaction, "SLACK_BYTES", 500)
    monkeypatch.setattr(compaction, "SNAPSHOT_STEP_BYTES", 100)
    monkeypatch.setattr(compaction, "SNAPSHOT_PACE", 2)
    monkeypatch.setattr(compaction, "SNAPSHOT_RECORD_BYTES", 300)
    monkeypatch.setattr(compaction, "SYNC_BYTES", 250)


@pytest.fixture
def unhurried(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact early, and one key with each append."""
    monkeypatch.setattr(compaction, "SNAPSHOT_PACE", 0)
    monkeypatch.setattr(compaction, "SNAPSHOT_STEP_BYTES", 1)
