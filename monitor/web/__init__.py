"""What a daemon serves over HTTP: metrics, health, what it found, and what is pushed to it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

import pydantic

from monitor.settings import Settings

SERIES = 20_000


def _address(given: str) -> str:
    host, colon, port = given.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise ValueError(f"expected host:port, not {given!r}")
    return given


class WebSettings(Settings):
    """Where it is served, and to whom."""

    listen: Annotated[str, pydantic.AfterValidator(_address)] = "127.0.0.1:9464"
    """``host:port``. Without tokens an address that others can reach serves metrics and health alone."""
    tokens_file: Path | None = None
    """A line a token: its role (viewer, operator, writer), a name for it, and the token."""
    series: pydantic.PositiveInt = SERIES
    """Series of streams and segments that are shown at most."""

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
