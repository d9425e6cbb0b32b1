"""Who may ask for what: decided before anything of a request but its head is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.web.tokens import Holder, Role, Tokens

OPEN = frozenset({"/metrics", "/healthz", "/readyz"})
"""What everybody may ask for."""
PUSH = "/api/v1/records"
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Denied(Exception):  # noqa: N818  what is answered, not a fault
    """They may not."""

    def __init__(self, status: int, said: str, **headers: str) -> None:
        super().__init__(said)
        self.status, self.headers = status, headers


@dataclass(frozen=True, slots=True)
class Access:
    """Who may."""

    tokens: Tokens | None
    loopback: bool
    """Whether only this machine can ask: without tokens it then may ask for everything."""

    def holder(self, method: str, path: str, headers: Mapping[str, str]) -> Holder:
        """Who asks. Raises Denied."""
        role = role_of(method, path)
        if self.tokens is None:
            if not self.loopback:
                said = "without tokens (web.tokens_file) this address serves /metrics, /healthz and /readyz alone"
                raise Denied(403, said)
            _from_here(headers)
            return Holder("anybody", role)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = self.tokens.holder(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise Denied(401, "a bearer token is needed", **{"WWW-Authenticate": "Bearer"})
        if not found.may(role):
            raise Denied(403, f"{found.name} has the role {found.role}; this needs {role}")
        return found


def role_of(method: str, path: str) -> Role:
    """What a request needs: looking the least, and changing anything more.

    >>> role_of("GET", "/api/v1/alerts"), role_of("POST", "/api/v1/records"), role_of("POST", "/-/reload")
    ('viewer', 'writer', 'operator')
    """
    if method in {"GET", "HEAD"}:
        return "viewer"
    return "writer" if path == PUSH else "operator"


def _from_here(headers: Mapping[str, str]) -> None:
    """Refuse what a browser sends on behalf of a page from elsewhere: to this address, but under another name."""
    for header in ("host", "origin"):
        value = headers.get(header)
        name = (value or "").rpartition("//")[2]
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if value is not None and name not in _LOCAL:
            raise Denied(403, f"{header} {value!r} is not this machine; set web.tokens_file to be asked so")


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets requests through to the application; `request.state.who` is who asks."""

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            try:
                who = self.access.holder(scope["method"], scope["path"], HTTPConnection(scope).headers)
            except Denied as denied:
                body = msgspec.json.encode({"error": str(denied)})
                answer = Response(body, denied.status, denied.headers, "application/json")
                await answer(scope, receive, send)
                return
            scope.setdefault("state", {})["who"] = who
        await self.app(scope, receive, send)
