"""The HTTP interface of a daemon (DESIGN section 9): who may ask, what is answered.

Nothing here touches the loop's own state: answers come from the last snapshot, from the store, read by a connection of
their own, or wait for the loop to commit what was asked of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import pydantic
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException

from monitor import __version__
from monitor.logs import tell
from monitor.model import Action, Event
from monitor.rows import alert_row, change_row, event_row, reading_row
from monitor.settings import Moment, format_duration, format_time
from monitor.snapshot import WindowSignal
from monitor.sources.spool import SpoolFullError
from monitor.store import CHANGES, EVENTS, READINGS, Page, StoreError, Wanted, read_only
from monitor.web.access import PUSH, Access, Guard
from monitor.web.desk import STALLED_SECONDS, Desk
from monitor.web.pushes import Refusal, messages_of
from monitor.web.tokens import Holder

BODY = 16 << 20
"""Bytes of a request's body, at most."""
ANSWER_SECONDS = 15.0
"""How long a request waits for the loop."""
ROWS = 1000
"""Rows of an answer, at most."""
T = TypeVar("T")
After = Annotated[int, Query(ge=0, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=ROWS)]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows are wanted."""

    stream: str | None = None
    segment: Annotated[str | None, Query(description="label=value; empty for whole streams")] = None
    signal: str | None = None
    begin: Annotated[Moment | None, Query(alias="from", description="event time, inclusive")] = None
    end: Annotated[Moment | None, Query(alias="to", description="event time, exclusive")] = None

    def wanted(self) -> Wanted:
        return Wanted(self.stream, self.segment, self.signal, self.begin, self.end)

    def fit(self, stream: str, segment: str | None, signal: str | None = None) -> bool:
        """Whether something that is not in the store is wanted; its time is not asked for."""
        return (
            self.stream in {None, stream}
            and self.segment in {None, segment or ""}
            and (signal is None or self.signal in {None, signal})
        )


class NewEvent(pydantic.BaseModel):
    """Something that has happened: a deployment, another prompt, a campaign."""

    model_config = pydantic.ConfigDict(extra="forbid")
    title: Annotated[str, pydantic.Field(min_length=1, max_length=200)]
    kind: Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")] = "deployment"
    at: Moment | None = None
    """Now, where it is left out."""
    stream: Annotated[str, pydantic.Field(max_length=200)] | None = None
    text: Annotated[str, pydantic.Field(max_length=2000)] | None = None


class Rows(Response):
    """JSON as msgspec writes it: an undefined number is null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


def make_app(desk: Desk, access: Access) -> FastAPI:
    """The application of one daemon."""
    app = FastAPI(title="driftd", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, access=access)
    app.add_exception_handler(AnyHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(StoreError, _no_store)
    app.add_exception_handler(Exception, _failed)
    _serve_health(app, desk)
    _serve_reads(app, desk)
    _serve_rows(app, desk)
    _serve_pushes(app, desk)
    _serve_actions(app, desk)
    return app


# ---- refusals -------------------------------------------------------------------------------------------------------


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    return Rows({"error": error.detail}, error.status_code, dict(error.headers or {}))


async def _misfit(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return Rows({"error": "; ".join(said)}, 422)


async def _no_store(_: Request, error: Exception) -> Response:
    return Rows({"error": str(error)}, 503)


async def _failed(request: Request, error: Exception) -> Response:
    tell(logging.ERROR, "a request failed", path=request.url.path, error=type(error).__name__)
    return Rows({"error": "driftd failed to answer; its log says more"}, 500)


# ---- for everybody --------------------------------------------------------------------------------------------------


def _serve_health(app: FastAPI, desk: Desk) -> None:
    @app.get("/metrics", response_class=Response)
    def metrics(request: Request) -> Response:
        """Metrics for Prometheus, as text or OpenMetrics."""
        body, content_type = desk.metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    @app.get("/healthz")
    def alive() -> Response:
        """Whether the loop lives; waiting for brokers or for room on the disk is living."""
        silent = desk.silent_seconds
        stalled = silent > STALLED_SECONDS
        state = {"status": "stalled" if stalled else "ok", "seconds_since_sign_of_life": round(silent, 1)}
        return Rows(state, 503 if stalled else 200)

    @app.get("/readyz")
    def ready() -> Response:
        """Whether it reads and may be pushed to."""
        state = "store cannot be written" if desk.blocked else desk.phase
        return Rows({"status": state}, 200 if state == "running" else 503)


# ---- from the last snapshot -----------------------------------------------------------------------------------------


def _serve_reads(app: FastAPI, desk: Desk) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        return Rows(app.openapi())

    @app.get("/api/v1/streams")
    def streams() -> Response:
        """The streams that are known, their segments, and when records last came."""
        return Rows({"rows": _streams(desk)})

    @app.get("/api/v1/windows")
    def windows(filters: Annotated[Filters, Depends()]) -> Response:
        """What every signal comes to in the newest window of each size."""
        found = [] if desk.snapshot is None else desk.snapshot.measured()
        return Rows(
            {
                "rows": [
                    _window_row(one) for one in found if filters.fit(one.scope.stream, one.scope.segment, one.signal)
                ]
            }
        )

    @app.get("/api/v1/references")
    def references(filters: Annotated[Filters, Depends()]) -> Response:
        """What windows are held against, and what is being learned."""
        held = [] if desk.snapshot is None else desk.snapshot.references
        return Rows(
            {
                "rows": [
                    {
                        "stream": one.scope.stream,
                        "segment": one.scope.segment,
                        "kind": one.kind,
                        "state": "learning" if one.learning else "ruling",
                        "begin": format_time(one.begin),
                        "end": format_time(one.end),
                        "signals": one.signals,
                    }
                    for one in held
                    if filters.fit(one.scope.stream, one.scope.segment)
                    and (filters.signal is None or filters.signal in one.signals)
                ]
            }
        )

    @app.get("/api/v1/alerts/live")
    def live(filters: Annotated[Filters, Depends()]) -> Response:
        """The alerts that are pending or firing."""
        alerts = [] if desk.snapshot is None else desk.snapshot.alerts
        rows = [alert_row(alert) for alert in alerts if filters.fit(alert.stream, alert.segment)]
        return Rows({"rows": [row for row in rows if filters.signal is None or filters.signal in row["signals"]]})


def _streams(desk: Desk) -> list[Mapping[str, Any]]:
    if desk.snapshot is None:
        return []
    segments: dict[str, set[str]] = {stream: set() for stream in desk.snapshot.last}
    for held in desk.snapshot.references:
        of_stream = segments.setdefault(held.scope.stream, set())
        if held.scope.segment is not None:
            of_stream.add(held.scope.segment)
    last = desk.snapshot.last
    return [
        {
            "stream": stream,
            "segments": sorted(found),
            "last_record_before": format_time(last[stream]) if stream in last else None,
        }
        for stream, found in sorted(segments.items())
    ]


def _window_row(found: WindowSignal) -> Mapping[str, Any]:
    return {
        "end": format_time(found.end),
        "window": format_duration(found.window),
        "stream": found.scope.stream,
        "segment": found.scope.segment,
        "signal": found.signal,
        "kind": found.kind,
        "records": found.records,
        "n": found.n,
        "mean": found.mean,
        "rate": found.rate,
        "quantiles": {f"{q:g}": value for q, value in found.quantiles.items()},
        "coverage": found.coverage,
    }


# ---- from the store -------------------------------------------------------------------------------------------------


def _serve_rows(app: FastAPI, desk: Desk) -> None:
    def page(
        what: Page[T], row: Callable[[T], Mapping[str, Any]], filters: Filters, after: int, limit: int
    ) -> Response:
        with closing(read_only(desk.store)) as store:
            found = store.page(what, filters.wanted(), after, limit)
        following = found[-1][0] if len(found) == limit else None
        return Rows({"rows": [row(one) for _, one in found], "next": following})

    @app.get("/api/v1/readings")
    def readings(filters: Annotated[Filters, Depends()], after: After = 0, limit: Limit = 100) -> Response:
        """Readings, oldest first, with the fields of a replay's readings.jsonl."""
        return page(READINGS, reading_row, filters, after, limit)

    @app.get("/api/v1/alerts")
    def alerts(filters: Annotated[Filters, Depends()], after: After = 0, limit: Limit = 100) -> Response:
        """Changes of alerts, oldest first, with the fields of a replay's alerts.jsonl."""
        return page(CHANGES, change_row, filters, after, limit)

    @app.get("/api/v1/events")
    def events(filters: Annotated[Filters, Depends()], after: After = 0, limit: Limit = 100) -> Response:
        """What was said to have happened."""
        return page(EVENTS, event_row, filters, after, limit)


# ---- what changes something -----------------------------------------------------------------------------------------


def _serve_pushes(app: FastAPI, desk: Desk) -> None:
    @app.post(PUSH, status_code=202)
    async def records(request: Request, source: str | None = None) -> Response:
        """Records, one JSON object a line, or a JSON array of them: all are on disk when this is answered, or none.

        `source`: name of the push source, where there are several. 404 no such source, 413 too large, 422 not records,
        429 the spool is full, 503 the spool cannot be written.
        """
        name = _intake(desk, source)
        body = await _body(request)
        intake = desk.intakes[name]
        try:
            messages = await run_in_threadpool(messages_of, body, request.headers.get("content-type", ""), intake, name)
            await run_in_threadpool(intake.accept, messages)
        except Refusal as refusal:
            return Rows({"error": str(refusal), "records": refusal.rows}, refusal.status, refusal.headers)
        except SpoolFullError as error:
            raise HTTPException(
                429, f"{error}; try again when some of it has been counted", {"Retry-After": "5"}
            ) from None
        except ValueError as error:
            raise HTTPException(413, str(error)) from None
        except OSError as error:
            raise HTTPException(503, f"the spool cannot be written: {error.strerror}", {"Retry-After": "10"}) from None
        return Rows({"accepted": len(messages)}, 202)


def _intake(desk: Desk, source: str | None) -> str:
    names = sorted(desk.intakes)
    if not names:
        raise HTTPException(404, "there is no source of kind push in the configuration")
    if source is None and len(names) == 1:
        return names[0]
    if source not in names:
        raise HTTPException(404, f"`source` must name a push source: {', '.join(names)}")
    return source


async def _body(request: Request) -> bytes:
    """The whole body, unless it is too large: then no more of it is read. Raises HTTPException."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > BODY:
            raise HTTPException(413, f"a request may have {BODY >> 20} MiB; send fewer records at a time")
        parts.append(part)
    return b"".join(parts)


def _serve_actions(app: FastAPI, desk: Desk) -> None:
    @app.post("/api/v1/events", status_code=201)
    async def happened(request: Request, new: NewEvent) -> Response:
        """Say that something has happened; it is in the store when this is answered."""
        who: Holder = request.state.who
        now = round(time.time() * 1000)
        event = Event(now if new.at is None else new.at, new.kind, new.title, who.name, new.stream, new.text)
        kept = desk.ask(Action(now, who.name, "event", f"{event.kind}: {event.title}"), event)
        await _answer(kept, "the event may not be in the store yet")
        return Rows({"status": "kept"}, 201)

    @app.post("/-/reload")
    async def reload(request: Request) -> Response:
        """Read the configuration again; a bad one is refused (422) and the one in use stays."""
        who: Holder = request.state.who
        asked: Future[str] = Future()
        desk.reloads.put(asked)
        try:
            said = await _answer(asked, "it has not been read yet")
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        desk.ask(Action(round(time.time() * 1000), who.name, "reload", said))
        return Rows({"status": said})


async def _answer(asked: Future[T], otherwise: str) -> T:
    """What the loop answers. Raises HTTPException where it does not, in time."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(asked), ANSWER_SECONDS)
    except (Overdue, TimeoutError):
        raise HTTPException(503, f"the daemon has not answered in {ANSWER_SECONDS:g} s; {otherwise}") from None
