"""Runs that kill themselves with SIGKILL at a chosen point: one job a line on standard input, a forked child each.

A job is {"out", "logs", "resume", "batch", "kill": [what, number, step], "plant", "sampled"} of a replay, or {"store",
"brokers", "topic", "version", "messages", "batch", "kill", "plant"} of a daemon, which stops when it has read so many
messages; answers one line with how it ended. What: `poll` and `commit` before the number-th of them, `after` the
number-th commit, `step` before a statement of the number-th commit, `file` before the number-th file of the result is
put in its place, `moment` so many milliseconds after it began.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from monitor import daemon, pipeline
from monitor.pipeline import Pipeline
from monitor.sampling import Sample
from monitor.sources import SOURCES
from monitor.sources.files import Files
from monitor.sources.kafka import Kafka
from monitor.sources.several import Several
from monitor.store import Store
from tests.mortal import Mortal
from tests.replay.logs import config, few_signals, replay


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(what: str, number: int, step: int) -> None:
    """Arrange for this process's death."""
    calls = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Any, *given: Any) -> Any:
            nonlocal calls
            calls += 1
            mortal = calls == number
            if mortal and what in {"poll", "commit", "file"}:
                die()
            if mortal and what == "step":
                self._db = Mortal(self._db, step, die)
            result = method(self, *given)
            if mortal and what == "after":
                die()
            return result

        return wrapped

    if what == "moment":
        threading.Timer(number / 1000, die).start()
        return
    owners: dict[str, list[tuple[type, str]]] = {
        "poll": [(Files, "poll"), (Several, "poll")],
        "file": [(Path, "replace")],
    }
    for owner, name in owners.get(what, [(Store, "commit")]):
        setattr(owner, name, counted(getattr(owner, name)))


def plant(what: str) -> None:
    """Put a fault into what runs."""
    if what == "positions without state":
        write_blobs = Store._write_blobs
        first: list[bool] = []

        def forgetful(self: Store, blobs: Any) -> None:
            if not first:
                first.append(True)
                write_blobs(self, blobs)

        setattr(Store, "_write_blobs", forgetful)  # noqa: B010  mypy has it that methods stay
    if what == "no samples":
        nothing = Sample().dump()
        setattr(Sample, "dump", lambda _: nothing)  # noqa: B010


def follow(job: Mapping[str, Any]) -> None:
    """A daemon that stops a round after it has read all: a start may find all read but not all closed."""
    running: list[Pipeline] = []
    rounds = 0

    def read() -> bool:
        nonlocal rounds
        rounds += bool(running) and sum(running[0].fates().values()) >= job["messages"]
        return rounds > 1

    class Watched(daemon._Journal):
        def begin(self, pipeline: Pipeline, config: Any) -> None:
            running.append(pipeline)
            super().begin(pipeline, config)

    daemon._Journal = Watched  # type: ignore[misc]
    if job["version"]:
        kind = SOURCES["kafka"]
        SOURCES["kafka"] = kind._replace(follow=partial(Kafka, api_version=tuple(job["version"]), wait=0.05))
    source = f"{{kind: kafka, brokers: {job['brokers']}, topic: {job['topic']}, group: crash}}"
    more = f"sources: [{source}]\nidle_after: 1h\nweb: false\nstore: {{path: {job['store']}}}"
    with few_signals(job["batch"]):
        daemon.run(config(more, lateness="10s"), read)


def run(job: Mapping[str, Any]) -> None:
    if "store" in job:
        follow(job)
        return
    replay(
        config(lateness="10s"),
        Path(job["out"]),
        *(Path(log) for log in job["logs"]),
        resume=job["resume"],
        batch=job["batch"],
        sampled=job.get("sampled", False),
    )


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            pipeline.COMMIT_SECONDS = 0
            plant(job.get("plant", ""))
            kill_at(*job["kill"])
            run(job)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"exit {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
