"""What holds for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

from monitor import app
from monitor.scorers import SAMPLE_SCORERS

settings.register_profile("driftd", deadline=None)  # how long an example takes is no law
settings.load_profile("driftd")


@pytest.fixture(autouse=True)
def _little_is_embedded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model costs seconds to load: only tests marked `embeds` run it where a configuration leaves it on."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if request.node.get_closest_marker("embeds") is None:
        rest = {name: row for name, row in SAMPLE_SCORERS.items() if name != "embedding"}
        monkeypatch.setattr(app, "SAMPLE_SCORERS", rest)


@pytest.fixture
def swept(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Sockets that are left behind are gone before another test; what pytest keeps of the log holds them too."""
    yield
    caplog.get_records("call").clear()
    gc.collect()
