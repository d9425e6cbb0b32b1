"""`driftd run`: what it follows, how it stops, and what it says of itself."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from monitor import daemon, logs
from monitor.__main__ import app
from monitor.app import UsageError, replay
from monitor.config import Config, load, parse
from monitor.logs import LogSettings, speak, tell
from monitor.metrics import Metrics
from monitor.model import Position, Raw, Refused, Reject
from monitor.sources import SOURCES
from monitor.sources.kafka import Kafka
from monitor.sources.push import Push, PushSettings
from monitor.sources.several import Several
from monitor.store import Store, StoreUnwritableError, read_only
from monitor.web.desk import STALLED_SECONDS, Desk
from tests.kafka_brokers import MOCK_VERSION, Mock, free_ports
from tests.replay.logs import few_signals, lines, make_log

WRITTEN = "my card is 4111 1111 1111 1111"


@pytest.fixture(scope="module")
def mock() -> Mock:
    return Mock()


def settings(mock: Mock, topic: str, store: Path, more: str = "") -> Config:
    source = f"{{kind: kafka, brokers: {mock.brokers}, topic: {topic}}}"
    text = f"sources: [{source}]\nwindows: [1m]\nreference: {{size: 6m}}\nstore: {{path: {store}}}\n{more}"
    if "web:" not in more:
        text += "\nweb: false"
    return parse(text, "driftd.yaml")


@pytest.fixture
def _mocked(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = partial(Kafka, api_version=MOCK_VERSION, wait=0.05)
    monkeypatch.setitem(SOURCES, "kafka", SOURCES["kafka"]._replace(follow=follow))


def run_until(config: Config, records: int) -> list[str]:
    """Run until so many records are in the store; what was said meanwhile."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    until = time.monotonic() + 30

    def read() -> bool:
        assert time.monotonic() < until, said
        if not config.store.path.exists() or not config.store.path.stat().st_size:
            return False
        with closing(read_only(config.store.path)) as store:
            return sum(store.counts().values()) >= records

    level = logs.LOG.level
    logs.LOG.addHandler(handler)
    logs.LOG.setLevel(logging.INFO)
    try:
        with few_signals():
            daemon.run(config, read)
    finally:
        logs.LOG.removeHandler(handler)
        logs.LOG.setLevel(level)
    return said


@pytest.mark.usefixtures("_mocked")
def test_it_goes_on_where_it_stopped_and_says_so(mock: Mock, tmp_path: Path) -> None:
    config, messages = settings(mock, "goes-on", tmp_path / "driftd.db"), lines(make_log(1, 300))
    mock.send("goes-on", *messages[:200])
    first = run_until(config, 200)
    assert [first[0], first[-1]] == ["started", "stopped"]
    mock.send("goes-on", *messages[200:], b"not a record")
    run_until(config, len(messages) + 1)
    with closing(Store(config.store.path)) as store:
        counts, (reject,) = store.counts(), store.rejects()
    assert sum(counts.values()) == len(messages) + 1
    assert (counts["unparseable"], reject.source) == (1, "goes-on-0")


@pytest.mark.usefixtures("_mocked")
def test_sources_of_several_formats_are_one_stream_of_time(mock: Mock, tmp_path: Path) -> None:
    mock.send("native", *lines(make_log(1, 100)))
    other = [{"when": row["ts"], "name": "bot-9", "no": row["id"]} for row in make_log(2, 100)]
    mock.send("other", *lines(other))
    where, fields = f"kind: kafka, brokers: {mock.brokers}", "{id: $.no, ts: $.when, model: $.name}"
    sources = f"[{{{where}, topic: native}}, {{{where}, topic: other, format: {fields}}}]"
    config = parse(f"sources: {sources}\nweb: false\nstore: {{path: {tmp_path / 'driftd.db'}}}", "driftd.yaml")
    run_until(config, len(make_log(1, 100)) + len(other))
    with closing(Store(config.store.path)) as store:
        assert set(store.positions()) == {"native-0", "other-0"}
        assert not list(store.rejects())


@pytest.mark.usefixtures("_mocked")
def test_another_stream_key_than_that_of_the_store_is_refused(mock: Mock, tmp_path: Path) -> None:
    path = tmp_path / "driftd.db"
    daemon.run(settings(mock, "refused", path), lambda: True)
    daemon.run(settings(mock, "refused", path, "idle_after: 5m\nlog: {format: json}"), lambda: True)
    with pytest.raises(UsageError, match=r'^streams.by: .*driftd.db was made with "model", and it is "tenant" now; '):
        daemon.run(settings(mock, "refused", path, "streams: {by: tenant}"), lambda: True)


@pytest.mark.usefixtures("_mocked")
def test_a_changed_configuration_goes_on_and_the_log_and_check_say_which(mock: Mock, tmp_path: Path) -> None:
    rows, path, plain = lines(make_log(1, 300)), tmp_path / "driftd.db", "signals: {embedding: false}\n"
    mock.send("changed", *rows[:200])
    run_until(settings(mock, "changed", path, plain), 200)
    other = f"{plain}rules: [{{name: Own, signal: status, on: drift}}]"
    mock.send("changed", *rows[200:])
    said = run_until(settings(mock, "changed", path, other), len(rows))
    assert said[:2] == ["configuration changed: rules; kept: 4 signals", "started"]
    with closing(Store(path)) as store:
        assert "configuration changed: rules; kept: 4 signals" in store.notices()
    assert run_until(settings(mock, "changed", path, other), len(rows))[0] == "started"
    file, source = tmp_path / "driftd.yaml", f"{{kind: kafka, brokers: {mock.brokers}, topic: changed}}"
    text = f"sources: [{source}]\nwindows: [1m]\nreference: {{size: 6m}}\nstore: {{path: {path}}}\n{plain}"
    for more, code, told in (
        ("", 0, f"note: over {path}: configuration changed: rules; kept: 4 signals\n"),
        ("lateness: 1m", 0, f"note: over {path}: configuration changed: lateness, rules; kept: 4 signals\n"),
        ("streams: {by: tenant}", 2, f'driftd: streams.by: {path} was made with "model", and it is "tenant" now; '),
    ):
        file.write_text(text + more)
        with few_signals():
            done = CliRunner().invoke(app, ["check", "-c", str(file)])
        assert (done.exit_code, done.output.startswith(told)) == (code, True), done.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "there are no `sources` to run on"),
        ("sources: [{kind: files, paths: ['-']}]", r"sources\[0\]: paths: standard input \(-\) cannot be followed"),
        ("sources: [{kind: push, spool: /dev/null/a}]", r"sources\[0\]: /dev/null/a cannot hold a spool: Not a dir"),
    ],
)
def test_what_cannot_be_followed_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        daemon.run(parse(text, "driftd.yaml"), lambda: True)


def on(source: str, folder: Path) -> Config:
    text = f"sources: [{source}]\nwindows: [1m]\nreference: {{size: 6m}}\nstore: {{path: {folder / 'driftd.db'}}}"
    return parse(text, "driftd.yaml")


def outcome(folder: Path) -> tuple[object, ...]:
    with closing(read_only(folder / "driftd.db")) as store:
        found = [repr(reading) for reading in store.readings()], [repr(change) for change in store.changes()]
        return *found, store.counts(), store.meta()["watermark"]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """What a replay makes of the log, with its end left open."""
    folder = tmp_path_factory.mktemp("replayed")
    (folder / "all.jsonl").write_bytes(b"".join(line + b"\n" for line in lines(make_log(6, 4_000))))
    with few_signals():
        replay(on("{kind: files, paths: [x]}", folder), folder, [str(folder / "all.jsonl")], resume=True)
    readings, changes, *_ = found = outcome(folder)
    assert readings
    assert changes
    return found


def test_a_log_that_is_rotated_while_it_is_followed_gives_what_its_replay_gives(
    tmp_path: Path, replayed: tuple[object, ...]
) -> None:
    log, messages = tmp_path / "bot.jsonl", lines(make_log(6, 4_000))
    config = on(f"{{kind: files, paths: ['{log}*']}}", tmp_path)

    def write(begin: int, end: int) -> None:
        for number in range(5, 0, -1):
            if Path(f"{log}.{number}").exists():
                Path(f"{log}.{number}").rename(f"{log}.{number + 1}")
        if log.exists():
            log.rename(f"{log}.1")
        log.write_bytes(b"".join(line + b"\n" for line in messages[begin:end]))

    write(0, 1_000)
    during = threading.Timer(1.0, write, (1_000, 2_000))
    during.start()
    run_until(config, 2_000)
    write(2_000, 3_000)
    write(3_000, len(messages))
    run_until(config, len(messages))
    assert outcome(tmp_path) == replayed


def test_what_is_pushed_gives_what_its_replay_gives_and_is_deleted_when_it_is_stored(
    tmp_path: Path, replayed: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Push] = []

    def follow(settings: PushSettings, **more: float) -> Push:
        opened.append(Push(settings, **more))
        return opened[-1]

    monkeypatch.setitem(SOURCES, "push", SOURCES["push"]._replace(follow=follow))
    config, messages = on(f"{{kind: push, spool: {tmp_path / 'spool'}}}", tmp_path), lines(make_log(6, 4_000))

    def bring(begin: int, end: int) -> None:
        until = time.monotonic() + 30
        while not opened and time.monotonic() < until:
            time.sleep(0.01)
        for at in range(begin, end, 97):
            opened[-1].accept(messages[at : min(at + 97, end)])

    for begin, end in ((0, 1_500), (1_500, len(messages))):
        opened.clear()
        bringing = threading.Thread(target=bring, args=(begin, end))
        bringing.start()
        run_until(config, end)
        bringing.join()
    assert outcome(tmp_path) == replayed
    refused = CliRunner().invoke(app, ["positions", "set", str(tmp_path), "push", "0"])
    assert refused.output == "driftd: push is no partition of a topic; only a position in one can be set\n"
    assert [path.stat().st_size for path in (tmp_path / "spool").glob("*.spool")] == [0]


@pytest.mark.usefixtures("_mocked")
def test_positions_are_shown_and_set_of_a_daemon_that_is_stopped(mock: Mock, tmp_path: Path) -> None:
    config = settings(mock, "moved", tmp_path / "driftd.db")
    mock.send("moved", *lines(make_log(5, 60)))
    run_until(config, 60)
    run = CliRunner().invoke
    assert re.search(r"moved-0 +6\d ", run(app, ["positions", "show", str(tmp_path)]).output)
    path = str(config.store.path)
    assert run(app, ["positions", "set", path, "moved-9", "1"]).output == (
        "driftd: there is no partition 'moved-9'; there are: moved-0\n"
    )
    with closing(Store(config.store.path)):
        busy = run(app, ["positions", "set", path, "moved-0", "10"])
    assert (busy.exit_code, busy.output) == (3, f"driftd: {path} is in use by another driftd process\n")
    done = run(app, ["positions", "set", path, "moved-0", "10"])
    assert (done.exit_code, done.output.partition(",")[0]) == (0, "moved-0 goes on at 10")
    run_until(config, 100)
    with closing(Store(config.store.path)) as store:
        counts = store.counts()
        assert counts["late"] + counts["duplicate"] >= 50
        assert counts["counted"] <= len(make_log(5, 60))
        assert "moved-0: somebody set the position" in store.notices()[-1]


# ---- as a process ---------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """A running daemon."""

    process: subprocess.Popen[str]
    folder: Path

    def line(self) -> dict[str, str]:
        assert self.process.stderr is not None
        found: dict[str, str] = json.loads(self.process.stderr.readline())
        return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Process]:
    """A daemon whose broker is nowhere, as long as the test."""
    file = tmp_path / "driftd.yaml"
    source = "{kind: kafka, brokers: ['127.0.0.1:1'], topic: t}"
    path = tmp_path / "driftd.db"
    file.write_text(
        f"sources: [{source}]\nstore: {{path: {path}}}\nlog: {{format: json}}\nsignals: {{embedding: false}}\n"
        "web: {listen: '127.0.0.1:0'}"
    )
    command = [sys.executable, "-m", "monitor", "run", "-c", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield Process(process, tmp_path)
        process.kill()


def test_it_waits_for_a_broker_that_is_not_there_and_stops_when_it_is_told_to(running: Process) -> None:
    assert running.line()["event"] == "started"
    assert [(path.name, path.stat().st_mode & 0o007) for path in running.folder.glob("*.db")] == [("driftd.db", 0)]
    trouble = running.line()
    assert trouble["level"] == "warning"
    assert "kafka topic t at 127.0.0.1:1" in trouble["event"]
    running.process.send_signal(signal.SIGTERM)
    assert running.line()["event"] == "stopped"
    assert running.process.wait(20) == 0


def test_a_second_signal_ends_it_at_once(running: Process) -> None:
    running.line()
    running.process.send_signal(signal.SIGSTOP)  # both come before it can do anything
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGCONT)
    assert running.process.wait(20) in {128 + signal.SIGTERM, 128 + signal.SIGINT}


def test_an_end_that_takes_too_long_is_cut_short() -> None:
    code = "import time; from monitor.daemon import Stop; Stop(0.2).ask(); time.sleep(30)"
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    assert time.monotonic() - began < 25


# ---- beside the loop ------------------------------------------------------------------------------------------------


@contextmanager
def served(config: Config, reload: daemon.Reload | None = None) -> Iterator[Callable[..., httpx.Response]]:
    """A daemon in a thread; gives what asks it."""
    stop, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            with few_signals():
                daemon.run(config, stop.is_set, reload)
        except BaseException as error:  # noqa: BLE001  it is raised below
            failed.append(error)

    def ask(path: str, method: str = "GET", **more: Any) -> httpx.Response:
        assert config.web
        return httpx.request(method, f"http://{config.web.listen}{path}", timeout=20, **more)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not failed and time.monotonic() < until:
            with suppress(httpx.TransportError):
                if ask("/readyz").status_code == 200:
                    break
            time.sleep(0.05)
        yield ask
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def shown(ask: Callable[..., httpx.Response], name: str) -> dict[str, float]:
    """The samples of one metric, by their labels."""
    found = (line.rpartition(" ") for line in ask("/metrics").text.splitlines() if line.startswith(f"driftd_{name}"))
    return {series.removeprefix(f"driftd_{name}"): float(value) for series, _, value in found}


@pytest.mark.usefixtures("_mocked")
def test_it_shows_what_it_commits(mock: Mock, tmp_path: Path) -> None:
    mock.send("shown", *lines(make_log(1, 300)), b"no record")
    config = settings(mock, "shown", tmp_path / "driftd.db", f"web: {{listen: '127.0.0.1:{free_ports()}'}}")
    with served(config) as ask:
        wait_for(lambda: shown(ask, "records_total").get("", 0) > 300)
        assert shown(ask, "records_dropped_total") == {'{reason="unparseable"}': 1}
        assert shown(ask, "consumer_lag_records")['{partition="shown-0"}'] == 0
        assert shown(ask, "source_trouble") == {'{source="kafka shown"}': 0}
        assert sum(shown(ask, "scoring_seconds_count").values()) > 0
        event = {"title": "out, by bob@example.com", "text": "mail bob@example.com"}
        assert ask("/api/v1/events", "POST", json=event).status_code == 201
        (kept,) = ask("/api/v1/events").json()["rows"]
        assert (kept["title"], kept["text"], kept["by"]) == ("out, by [email]", "mail [email]", "anybody")
        assert ask("/healthz").status_code == 200
    with closing(Store(config.store.path)) as store:
        (action,) = store.actions()
    assert (action.who, action.what, action.detail) == ("anybody", "event", "deployment: out, by [email]")
    with served(config) as ask:
        assert shown(ask, "records_total")[""] > 300, "what an earlier run left is shown from the first moment on"


@pytest.mark.usefixtures("_mocked")
def test_a_configuration_that_is_read_again_takes_over_and_a_bad_one_does_not(mock: Mock, tmp_path: Path) -> None:
    mock.send("reload", *lines(make_log(1, 50)))
    path, ports = tmp_path / "driftd.yaml", [free_ports(), free_ports()]

    def write(more: str, port: int) -> None:
        source = f"{{kind: kafka, brokers: {mock.brokers}, topic: reload}}"
        web = f"web: {{listen: '127.0.0.1:{port}'}}"
        text = f"sources: [{source}]\nwindows: [1m]\nreference: {{size: 6m}}\nstore: {{path: {tmp_path / 'd.db'}}}"
        path.write_text(f"{text}\n{web}\n{more}")

    write("", ports[0])
    reload = daemon.Reload(partial(load, path))
    with served(load(path), reload) as ask:
        write("idle_aftr: 5m", ports[1])
        refused = ask("/-/reload", "POST")
        assert (refused.status_code, "did you mean 'idle_after'" in refused.json()["error"]) == (422, True)
        assert shown(ask, "last_reload_successful") == {"": 0}
        write("idle_after: 5m", ports[1])
        assert ask("/-/reload", "POST").status_code == 200
        moved = partial(httpx.get, timeout=20)

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return moved(f"http://127.0.0.1:{ports[1]}/readyz").status_code == 200
            return False

        wait_for(answers)
        with pytest.raises(httpx.ConnectError):
            ask("/readyz")
        # One that cannot be begun with gives way to the one before.
        with socket.create_server(("127.0.0.1", ports[0])):
            write("idle_after: 4m", ports[0])
            reload.ask()
            wait_for(lambda: not answers())
            wait_for(answers)


def test_only_one_that_cannot_be_begun_with_gives_way_to_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = parse("lateness: 1s", "old"), parse("lateness: 2s", "new")
    reload, ran = daemon.Reload(lambda: new), list[Config]()
    begins = iter([True, False, True, True])

    def run(config: Config, _: object, reload: daemon.Reload) -> None:
        ran.append(config)
        if not next(begins):
            raise UsageError("no such model")
        reload.before = None
        if len(ran) == 4:
            raise StoreUnwritableError("the disk is full, and it was told to stop")
        reload.accepted = new

    monkeypatch.setattr(daemon, "_run", run)
    with pytest.raises(StoreUnwritableError):
        daemon.run(old, lambda: False, reload)
    assert ran == [old, new, old, new]


@pytest.mark.parametrize(
    ("web", "said"),
    [
        ("{listen: '127.0.0.1:%d'}", r"web.listen: 127.0.0.1:\d+: address already in use"),
        ("{listen: '127.0.0.1:0', tokens_file: %s}", "tokens: everybody on this machine may read or write it"),
    ],
)
@pytest.mark.usefixtures("_mocked")
def test_what_cannot_be_served_is_refused_at_the_start(mock: Mock, tmp_path: Path, web: str, said: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("viewer me " + "x" * 20)
    tokens.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = web % (taken.getsockname()[1] if "%d" in web else tokens)
        with pytest.raises(UsageError, match=said):
            daemon.run(settings(mock, "any", tmp_path / "driftd.db", f"web: {given}"), lambda: True)


def test_a_loop_that_hangs_is_told_of_once_and_where(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "driftd.db", Metrics(10))
    watch = daemon._Watch(desk)
    with caplog.at_level(logging.ERROR, "driftd"):
        watch()
        desk._beat -= STALLED_SECONDS + 1
        watch()
        watch()
    (record,) = caplog.records
    assert record.getMessage() == "the loop gives no sign of life"
    assert "test_a_loop_that_hangs" in record.fields["at"]  # type: ignore[attr-defined]


# ---- several sources ------------------------------------------------------------------------------------------------


@dataclass
class Stub:
    """A live source that answers as it is told to."""

    name: str
    payloads: list[bytes] = field(default_factory=list)
    trouble: str = ""
    asked: list[tuple[Sequence[str], int]] = field(default_factory=list)
    known: Mapping[str, Position] = field(default_factory=dict)
    closed: bool = False
    waited: int = 0

    def partitions(self) -> Mapping[str, bool]:
        return {self.name: False}

    def resume(self, positions: Mapping[str, Position]) -> None:
        self.known = positions

    def peek(self, partition: str, limit: int) -> Raw:
        return Raw(partition, self.payloads[:limit], [0], [], Position(1))

    def poll(self, wanted: Sequence[str], limit: int, *, wait: bool = True) -> list[Raw]:
        self.asked.append((wanted, limit))
        self.waited += wait
        return [self.peek(self.name, limit)] if wanted and self.payloads else []

    def close(self) -> None:
        self.closed = True

    def drained(self) -> list[str]:
        return [] if self.trouble else [self.name]

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        return [reject for reject, _ in refused]

    def lag(self) -> dict[str, int]:
        return {self.name: len(self.payloads)}

    def committed(self, positions: Mapping[str, Position]) -> None:
        self.known = positions

    def notices(self) -> list[str]:
        return [f"{self.name} said"]


def test_several_sources_answer_as_one() -> None:
    one, other = Stub("a", [b"1"]), Stub("b", [b"2", b"3"])
    both = Several([one, other])
    assert both.partitions() == {"a": False, "b": False}
    assert [both.number_of(name) for name in ("a", "b")] == [0, 1]
    assert both.peek("b", 9).payloads == [b"2", b"3"]
    assert [raw.partition for raw in both.poll(["b", "a"], 9)] == ["a", "b"]
    assert (one.asked, other.asked) == ([(["a"], 9)], [(["b"], 8)]), "the limit is that of all together"
    assert both.notices() == ["a said", "b said"]
    assert (both.name, both.lag()) == ("a, b", {"a": 1, "b": 2})
    assert both.troubles() == {"a": False, "b": False}
    both.committed({"a": Position(1)})
    assert one.known == other.known == {"a": Position(1)}
    both.close()
    assert one.closed
    assert other.closed


def test_a_source_that_has_nothing_is_not_waited_for_while_another_one_has_something() -> None:
    empty, full = Stub("a", trouble="no route"), Stub("b", [b"1"])
    both = Several([empty, full])
    both.partitions()
    assert both.trouble == "no route"
    assert both.troubles() == {"a": True, "b": False}
    for _ in range(4):
        assert [raw.partition for raw in both.poll(["a", "b"], 9)] == ["b"]
    assert (len(empty.asked), empty.waited, full.waited) == (4, 0, 0)
    assert set(both.drained()) == {"b"}
    full.payloads = []
    for _ in range(4):
        both.poll(["a", "b"], 9)
    assert (empty.waited, full.waited) == (2, 2), "where none has anything, one after the other is waited for"


def test_no_source_is_starved_by_one_that_always_has_something() -> None:
    one, other = Stub("a", [b"1"] * 9), Stub("b", [b"2"] * 9)
    both = Several([one, other])
    both.partitions()
    assert [raw.partition for _ in range(4) for raw in both.poll(["a", "b"], 9)] == ["a", "b", "a", "b"]


# ---- what it says ---------------------------------------------------------------------------------------------------


@pytest.fixture
def _quiet_after() -> Iterator[None]:
    before = logs.LOG.handlers, logs.LOG.propagate, logs.LOG.level, logging.getLogger().handlers
    yield
    logs.LOG.handlers, logs.LOG.propagate, level, logging.getLogger().handlers = before
    logs.LOG.setLevel(level)


@pytest.mark.usefixtures("_quiet_after")
def test_lines_for_people_and_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "json"):
        speak(LogSettings.model_validate({"format": form}))
        tell(logging.WARNING, "two\nlines", stream='a "b"', segment=None, n=3)
        tell(logging.DEBUG, "not said")
        logging.getLogger("kafka").error("a library's own words")
        try:
            int("why")
        except ValueError:
            logs.LOG.exception("failed")
    text, *trace, first, second = capsys.readouterr().err.splitlines()
    assert text.partition(" ")[2] == "warning two lines stream=\"a 'b'\" n=3"
    assert trace[0].endswith("error   failed ")
    assert trace[-1].startswith("ValueError: invalid literal")
    assert {**json.loads(first), "at": ""} == {
        "at": "", "level": "warning", "event": "two\nlines", "stream": 'a "b"', "n": 3
    }  # fmt: skip
    assert json.loads(second)["trace"].splitlines()[-1] == trace[-1]


@pytest.mark.usefixtures("_quiet_after")
def test_libraries_are_heard_at_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    speak(LogSettings.model_validate({"level": "debug"}))
    logging.getLogger("kafka").warning("a library's own words")
    assert "a library's own words" in capsys.readouterr().err


@pytest.mark.usefixtures("_mocked")
def test_nothing_that_somebody_wrote_is_logged(mock: Mock, tmp_path: Path) -> None:
    rows = make_log(4, 3_000, per_second=4)
    for row in rows:
        row.update({"prompt": WRITTEN, "response": f"{WRITTEN} {row.get('response')}"})
    for number in range(4):
        mock.send("written", *lines(rows[number::4]), partition=number)
    mock.send("written", WRITTEN.encode(), json.dumps({"ts": "x", "prompt": WRITTEN}).encode())
    said = "\n".join(run_until(settings(mock, "written", tmp_path / "driftd.db"), len(rows) + 2))
    assert "alert firing" in said
    assert "4111" not in said
    assert "my card" not in said
