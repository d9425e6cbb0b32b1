"""The HTTP interface: who may ask for what, and that answers are what the files of a replay say."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.testclient import TestClient

from monitor.config import parse
from monitor.decoding import make_decoder
from monitor.metrics import Metrics
from monitor.rows import change_row, reading_row
from monitor.sources.spool import SpoolFullError
from monitor.store import Store
from monitor.web import WebSettings
from monitor.web import app as web
from monitor.web.access import OPEN, Access
from monitor.web.app import make_app
from monitor.web.desk import STALLED_SECONDS, Desk, Intake
from monitor.web.server import ListenError, served
from monitor.web.tokens import Holder, TokensError, read_tokens
from tests.replay.logs import config, lines, make_log, write
from tests.watched import Watched

TOKENS = {"viewer": "v" * 20, "operator": "o" * 20, "writer": "w" * 20}
HERE = "http://127.0.0.1:9464"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("run")
    return Watched(config(), folder / "out", write(folder / "log.jsonl", lines(make_log(3, 2_600))))


@pytest.fixture
def desk(run: Watched) -> Desk:
    metrics = Metrics(10_000)
    metrics.show(run.snapshot, 1.0)
    return Desk(run.store, metrics, snapshot=run.snapshot, phase="running")


def client(desk: Desk, access: Access | None = None, *, role: str = "", base: str = HERE) -> TestClient:
    headers = {"Authorization": f"Bearer {TOKENS[role]}"} if role else {}
    app = make_app(desk, access or Access(None, loopback=True))
    return TestClient(app, base_url=base, headers=headers, raise_server_exceptions=False)


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("# who may\n\n" + "".join(f"{role} my-{role} {token}\n" for role, token in TOKENS.items()))
    path.chmod(0o600)
    return path


# ---- who may --------------------------------------------------------------------------------------------------------


def routes(app: Any) -> list[tuple[str, str]]:
    paths = {**app.openapi()["paths"], "/openapi.json": {"get": {}}}
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_without_tokens_an_address_that_others_reach_serves_metrics_and_health_alone(desk: Desk) -> None:
    asked = client(desk, Access(None, loopback=False), base="http://10.0.0.7:9464")
    for method, path in routes(asked.app):
        status = asked.request(method, path).status_code
        assert (status == 403) == (path not in OPEN), path


NEEDED = {"/api/v1/records": "writer", "/api/v1/events POST": "operator", "/-/reload": "operator"}


def test_each_role_may_what_it_is_for(desk: Desk, tokens_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_SECONDS", 0.01)
    access = Access(read_tokens(tokens_file), loopback=False)
    may = {"viewer": {"viewer"}, "operator": {"viewer", "operator"}, "writer": {"writer"}, "": set[str]()}
    for token, roles in may.items():
        asked = client(desk, access, role=token, base="http://driftd.example")
        for method, path in routes(asked.app):
            needed = NEEDED.get(path, NEEDED.get(f"{path} {method}", "viewer"))
            status = asked.request(method, path).status_code
            refused = 401 if not token else 403
            assert (status == refused) == (path not in OPEN and needed not in roles), (token, method, path)


def test_a_wrong_token_is_told_what_is_needed_and_nothing_else(desk: Desk, tokens_file: Path) -> None:
    asked = client(desk, Access(read_tokens(tokens_file), loopback=True))
    for given in ("Bearer nonsense", f"Basic {TOKENS['viewer']}", "Bearer", "bearer  "):
        answer = asked.get("/api/v1/streams", headers={"Authorization": given})
        assert (answer.status_code, answer.json()) == (401, {"error": "a bearer token is needed"})
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("header", "value"), [("Host", "evil.example"), ("Origin", "http://evil.example:9464")])
def test_a_page_from_elsewhere_cannot_ask_through_a_browser_on_this_machine(
    desk: Desk, header: str, value: str
) -> None:
    asked = client(desk)
    assert asked.post("/api/v1/events", headers={header: value}, json={"title": "x"}).status_code == 403
    assert asked.get("/metrics", headers={header: value}).status_code == 200


@pytest.mark.parametrize("host", ["localhost:9464", "127.0.0.1:9464", "[::1]:9464", "localhost"])
def test_this_machine_may_call_itself_what_it_is_called(desk: Desk, host: str) -> None:
    assert client(desk).get("/api/v1/streams", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


BAD_TOKENS = [
    ("viewer grafana short", r"tokens:1: the token of grafana has 5 characters; 16 are the least"),
    ("reader grafana " + "x" * 16, r"tokens:1: unknown role 'reader'; there is viewer, operator, writer"),
    ("\nviewer " + "x" * 16, r"tokens:2: expected ROLE NAME TOKEN, found 2 words"),
    ("# nobody", r"tokens: holds no token; a line is ROLE NAME TOKEN"),
]


@pytest.mark.parametrize(("text", "said"), BAD_TOKENS)
def test_a_file_of_tokens_that_is_wrong_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(TokensError, match=said) as caught:
        read_tokens(path)
    assert "x" * 16 not in str(caught.value)


def test_a_file_of_tokens_that_everybody_may_read_is_refused(tokens_file: Path) -> None:
    tokens_file.chmod(0o604)
    with pytest.raises(TokensError, match="everybody on this machine may read or write it; chmod 600"):
        read_tokens(tokens_file)
    tokens_file.chmod(0o640)
    assert read_tokens(tokens_file).holder(TOKENS["writer"]) == Holder("my-writer", "writer")
    with pytest.raises(TokensError, match="missing: cannot be read: No such file or directory"):
        read_tokens(tokens_file.with_name("missing"))


# ---- what is answered -----------------------------------------------------------------------------------------------


def test_health_is_that_of_the_loop(desk: Desk) -> None:
    asked = client(desk)
    assert asked.get("/healthz").json()["status"] == "ok"
    desk._beat = time.monotonic() - STALLED_SECONDS - 1
    stalled = asked.get("/healthz")
    assert (stalled.status_code, stalled.json()["status"]) == (503, "stalled")
    desk.beat()
    assert asked.get("/healthz").status_code == 200


def test_it_is_ready_while_it_runs_and_can_write(desk: Desk) -> None:
    asked = client(desk)
    assert asked.get("/readyz").status_code == 200
    desk.blocked = True
    assert (asked.get("/readyz").status_code, asked.get("/readyz").json()["status"]) == (503, "store cannot be written")
    desk.blocked, desk.phase = False, "stopping"
    assert (asked.get("/readyz").status_code, asked.get("/readyz").json()["status"]) == (503, "stopping")


def plain(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [msgspec.json.decode(msgspec.json.encode(row)) for row in rows]


def pages(asked: TestClient, path: str, **filters: str) -> list[Any]:
    """All rows, page by page."""
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        answer = asked.get(path, params={**filters, "after": str(after), "limit": "7"}).json()
        assert len(answer["rows"]) <= 7
        found, after = found + answer["rows"], answer["next"]
    return found


def test_readings_and_alerts_are_those_of_a_replay_page_by_page(run: Watched, desk: Desk) -> None:
    store = Store(run.store, writable=False)
    readings, changes = plain(list(map(reading_row, store.readings()))), plain(list(map(change_row, store.changes())))
    store.close()
    asked = client(desk)
    assert pages(asked, "/api/v1/readings") == readings
    assert pages(asked, "/api/v1/alerts") == changes
    of_one = [r for r in readings if (r["stream"], r["segment"], r["signal"]) == ("bot-0", None, "status")]
    assert pages(asked, "/api/v1/readings", stream="bot-0", segment="", signal="status") == of_one != []
    segment = [r for r in readings if r["segment"] == "segment=tenant-1"]
    assert pages(asked, "/api/v1/readings", segment="segment=tenant-1") == segment != []
    begin, end = readings[9]["at"], readings[-1]["at"]
    between = [r for r in readings if begin <= r["at"] < end]
    assert pages(asked, "/api/v1/readings", **{"from": begin, "to": end}) == between != readings


def test_what_is_live_now(run: Watched, desk: Desk) -> None:
    asked = client(desk)
    live = asked.get("/api/v1/alerts/live").json()["rows"]
    assert len(live) == len(run.snapshot.alerts) > 0
    assert {row["state"] for row in live} <= {"pending", "firing"}
    windows = asked.get("/api/v1/windows", params={"stream": "bot-1", "signal": "status"}).json()["rows"]
    assert {(row["stream"], row["signal"]) for row in windows} == {("bot-1", "status")}
    volumes = asked.get("/api/v1/windows", params={"signal": "volume", "segment": ""}).json()["rows"]
    assert [row["records"] for row in volumes] == [row["n"] for row in volumes]
    references = asked.get("/api/v1/references").json()["rows"]
    assert {row["state"] for row in references} == {"ruling"}
    assert [row["stream"] for row in asked.get("/api/v1/streams").json()["rows"]] == ["bot-0", "bot-1"]


def test_before_there_is_anything_answers_are_empty(desk: Desk) -> None:
    asked = client(replace(desk, snapshot=None))
    for path in ("streams", "windows", "references", "alerts/live"):
        assert asked.get(f"/api/v1/{path}").json() == {"rows": []}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=yesterday", "query.from: "),
        ("limit=0", "query.limit: Input should be greater than or equal to 1"),
        ("limit=1001", "query.limit: Input should be less than or equal to 1000"),
        ("after=x", "query.after: Input should be a valid integer"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(desk: Desk, query: str, said: str) -> None:
    answer = client(desk).get(f"/api/v1/readings?{query}")
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_a_store_that_cannot_be_read_is_said(desk: Desk, tmp_path: Path) -> None:
    answer = client(replace(desk, store=tmp_path / "none.db")).get("/api/v1/readings")
    assert (answer.status_code, answer.json()["error"]) == (503, f"there is no store at {tmp_path / 'none.db'}")


def test_a_fault_is_told_to_the_log_and_not_to_who_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(web, "_streams", broken)
    with caplog.at_level(logging.ERROR, "driftd"):
        answer = client(desk).get("/api/v1/streams")
    assert (answer.status_code, answer.json()) == (500, {"error": "driftd failed to answer; its log says more"})
    assert caplog.records[0].getMessage() == "a request failed"
    assert "secret" not in caplog.text


def test_the_interface_describes_itself(desk: Desk) -> None:
    described = client(desk).get("/openapi.json").json()
    assert described["info"]["title"] == "driftd"
    assert {"/metrics", "/api/v1/readings", "/api/v1/records"} <= described["paths"].keys()


# ---- what changes something -----------------------------------------------------------------------------------------


def in_loop(what: Callable[[], bool]) -> threading.Thread:
    """A thread that does once what a loop would."""

    def loop() -> None:
        until = time.monotonic() + 10
        while not what() and time.monotonic() < until:
            time.sleep(0.005)

    thread = threading.Thread(target=loop)
    thread.start()
    return thread


def test_an_event_is_answered_when_it_is_kept(desk: Desk, tokens_file: Path) -> None:
    taken: list[Any] = []

    def loop() -> bool:
        for asked in desk.asked():
            taken.append(asked)
            asked.kept.set_result(None)
        return bool(taken)

    thread = in_loop(loop)
    asked = client(desk, Access(read_tokens(tokens_file), loopback=False), role="operator", base="http://a.example")
    body = {"title": "model v2", "stream": "bot-0", "at": "2026-01-01T00:08:00Z"}
    assert asked.post("/api/v1/events", json=body).status_code == 201
    thread.join()
    (found,) = taken
    assert (found.event.title, found.event.kind, found.event.by) == ("model v2", "deployment", "my-operator")
    assert (found.action.who, found.action.what, found.action.detail) == (
        "my-operator",
        "event",
        "deployment: model v2",
    )


def test_an_event_that_nobody_keeps_is_said_to_be_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_SECONDS", 0.01)
    answer = client(desk).post("/api/v1/events", json={"title": "x"})
    assert answer.status_code == 503
    assert "may not be in the store yet" in answer.json()["error"]


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": "x", "kind": "A b"}, {"title": "x", "titel": "y"}])
def test_an_event_that_is_none_is_refused(desk: Desk, body: Mapping[str, str]) -> None:
    assert client(desk).post("/api/v1/events", json=body).status_code == 422
    assert desk.asked() == []


@pytest.mark.parametrize(("problem", "status"), [(None, 200), ("c.yaml:4: unknown key", 422)])
def test_a_reload_is_answered_with_what_came_of_it(desk: Desk, problem: str | None, status: int) -> None:
    def loop() -> bool:
        if desk.reloads.empty():
            return False
        future: Future[str] = desk.reloads.get()
        if problem is None:
            future.set_result("read")
        else:
            future.set_exception(ValueError(problem))
        return True

    thread = in_loop(loop)
    answer = client(desk).post("/-/reload")
    thread.join()
    assert (answer.status_code, answer.json().get("error")) == (status, problem)
    assert [asked.action.what for asked in desk.asked()] == (["reload"] if problem is None else [])


# ---- pushes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pushed(desk: Desk) -> list[bytes]:
    """What a push source was given."""
    found: list[bytes] = []
    desk.intakes = {"push": Intake(found.extend, partial(make_decoder, "native"), 500)}
    return found


GOOD = lines(make_log(1, 3, streams=1))
SENT = [
    (b"\n".join(GOOD), "application/x-ndjson"),
    (b"\n\n".join(GOOD) + b"\n", ""),
    (b"[" + b",".join(GOOD) + b"]", "application/json; charset=utf-8"),
]


@pytest.mark.parametrize(("body", "content_type"), SENT)
def test_records_are_kept_each_once_as_they_were_sent(
    desk: Desk, pushed: list[bytes], body: bytes, content_type: str
) -> None:
    answer = client(desk).post("/api/v1/records", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()) == (202, {"accepted": len(GOOD)})
    assert [json.loads(message) for message in pushed] == [json.loads(message) for message in GOOD]
    assert not any(b"\n" in message for message in pushed)


REFUSED = [
    (b"", "", (422, "there is no record in it")),
    (b"\n \n", "", (422, "there is no record in it")),
    (GOOD[0] + b"\nnonsense", "", (422, "1 of 2 are not records; none was kept")),
    (b'{"id": "a", "ts": "soon"}', "", (422, "1 of 1 are not records; none was kept")),
    (b"[1, 2", "application/json", (422, "the body is not JSON: ")),
    (b'{"id": "' + b"x" * 600 + b'"}', "", (413, "a record may have 500 bytes")),
]


@pytest.mark.parametrize(("body", "content_type", "answered"), REFUSED)
def test_what_is_no_record_is_refused_whole_and_said(
    desk: Desk, pushed: list[bytes], body: bytes, content_type: str, answered: tuple[int, str]
) -> None:
    answer = client(desk).post("/api/v1/records", content=body, headers={"Content-Type": content_type})
    status, said = answered
    assert (answer.status_code, answer.json()["error"][: len(said)]) == (status, said)
    assert pushed == []


def test_a_refusal_names_records_and_fields(desk: Desk, pushed: list[bytes]) -> None:
    answer = client(desk).post("/api/v1/records", content=GOOD[0] + b'\n{"id": "a", "ts": "soon"}')
    (row,) = answer.json()["records"]
    assert (row["record"], row["reason"]) == (2, "bad_ts")
    assert "ts" in row["detail"]
    assert pushed == []


def test_a_body_that_is_too_large_is_not_read_to_its_end(
    desk: Desk, pushed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "BODY", 1 << 20)
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 24:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    answer = client(desk).post("/api/v1/records", content=parts())
    assert (answer.status_code, pushed) == (413, [])
    assert "send fewer records at a time" in answer.json()["error"]


def test_without_a_push_source_there_is_nowhere_to_push_to(desk: Desk) -> None:
    answer = client(desk).post("/api/v1/records", content=GOOD[0])
    assert (answer.status_code, answer.json()["error"]) == (404, "there is no source of kind push in the configuration")
    desk.intakes = {name: Intake(list[bytes]().extend, partial(make_decoder, "native"), 500) for name in "ab"}
    asked = client(desk)
    assert asked.post("/api/v1/records", content=GOOD[0]).json()["error"] == "`source` must name a push source: a, b"
    assert asked.post("/api/v1/records?source=b", content=GOOD[0]).status_code == 202


@pytest.mark.parametrize(
    ("raised", "status", "after"),
    [(SpoolFullError("the spool is full"), 429, "5"), (ValueError("more than the spool holds"), 413, None)],
)
def test_a_spool_that_has_no_room_is_said(desk: Desk, raised: Exception, status: int, after: str | None) -> None:
    def full(_: Sequence[bytes]) -> None:
        raise raised

    desk.intakes = {"push": Intake(full, partial(make_decoder, "native"), 500)}
    answer = client(desk).post("/api/v1/records", content=GOOD[0])
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, after)
    assert answer.json()["error"].startswith(str(raised))


def test_a_spool_that_cannot_be_written_is_said(desk: Desk) -> None:
    def full(_: Sequence[bytes]) -> None:
        raise OSError(28, "No space left on device")

    desk.intakes = {"push": Intake(full, partial(make_decoder, "native"), 500)}
    answer = client(desk).post("/api/v1/records", content=GOOD[0])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert answer.json()["error"] == "the spool cannot be written: No space left on device"


# ---- as a server ----------------------------------------------------------------------------------------------------


def test_it_is_served_as_long_as_it_is_wanted(desk: Desk) -> None:
    with served(WebSettings(listen="127.0.0.1:0"), desk) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").json() == {"status": "running"}
        with pytest.raises(ListenError, match=rf"web.listen: 127.0.0.1:{port}: address already in use"):
            served(WebSettings(listen=f"127.0.0.1:{port}"), desk).__enter__()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/readyz")


def test_settings_of_an_address() -> None:
    assert [WebSettings(listen=at).loopback for at in ("127.9.0.1:1", "[::1]:1", "localhost:1")] == [True] * 3
    assert [WebSettings(listen=at).loopback for at in ("0.0.0.0:1", "[::]:1", "driftd.example:1")] == [False] * 3
    assert (WebSettings(listen="[::1]:80").host, WebSettings(listen="[::1]:80").port) == ("::1", 80)
    for wrong in ("9464", ":9464", "localhost", "localhost:http", "localhost:70000"):
        with pytest.raises(ValueError, match="expected host:port, not"):
            WebSettings(listen=wrong)
    assert parse("web: false", "x").web is False
