"""What a daemon says of itself on standard error: one line an event, for people or as JSON. Never texts of records."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from monitor.settings import Settings, format_time

LOG = logging.getLogger("driftd")
"""Where driftd's own parts say what happens."""


class LogSettings(Settings):
    """How a daemon speaks."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class _Lines(logging.Formatter):
    """`time LEVEL event, key=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        begin = f"{_time(record)} {record.levelname.lower():<7} {_one_line(record.getMessage())}"
        more = [f"{key}={_quoted(value)}" for key, value in _fields(record).items()]
        trace = ["\n" + self.formatException(record.exc_info)] if record.exc_info else []
        return " ".join([begin, *more, *trace])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {"at": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        trace = {"trace": self.formatException(record.exc_info)} if record.exc_info else {}
        return msgspec.json.encode(said | dict(_fields(record)) | trace, enc_hook=str).decode()


def tell(level: int, event: str, **fields: Any) -> None:
    """Say that something happened; `fields` are its numbers and names, never what somebody wrote."""
    LOG.log(level, "%s", event, extra={"fields": fields})


def speak(settings: LogSettings) -> None:
    """Begin to log as the settings say. What libraries say is left out but for `level: debug`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.format == "json" else _Lines())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(level)
    if level == logging.DEBUG:
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    else:
        logging.getLogger().handlers = [logging.NullHandler()]


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return {key: value for key, value in getattr(record, "fields", {}).items() if value is not None}


def _time(record: logging.LogRecord) -> str:
    return format_time(round(record.created * 1000))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(value: object) -> str:
    text = _one_line(str(value))
    return text if text and not set(text) & set(' "=') else '"' + text.replace('"', "'") + '"'
