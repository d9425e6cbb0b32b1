from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.replay.logs import CENTURY, START, lines, make_log, shuffled

ROOT = Path(__file__).parents[2]
Ends = Callable[[Mapping[str, Any]], str]


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    """Runs a job in the driver and says how it ended."""
    command = [sys.executable, "-m", "tests.crash.driver"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        source, sink = driver.stdout, driver.stdin

        def run(job: Mapping[str, Any]) -> str:
            sink.write(json.dumps(job) + "\n")
            sink.flush()
            return source.readline().strip()

        yield run


def messages_of_a_log() -> list[bytes]:
    """Records out of order within the lateness, one leap, and messages that are no records."""
    rows = shuffled(make_log(11, 2_400, per_second=4), 11, 9_000)
    messages = lines(rows)
    messages.insert(1_000, json.dumps({**rows[0], "id": "leap", "ts": START + CENTURY}).encode())
    for at in range(300, len(messages), 300):
        messages.insert(at, b'{"id": "no time"}')
    return messages
