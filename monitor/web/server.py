"""Serves the HTTP interface from a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from monitor.web import WebSettings
from monitor.web.desk import Desk
from monitor.web.tokens import Tokens, read_tokens

CLOSE_SECONDS = 3
"""How long requests that are being answered may take when it ends."""


class ListenError(Exception):
    """The address cannot be served; the message names it and says why."""


def tokens_of(settings: WebSettings) -> Tokens | None:
    """The tokens of the settings' file; None where none is asked for. Raises TokensError."""
    return None if settings.tokens_file is None else read_tokens(settings.tokens_file)


@contextmanager
def served(settings: WebSettings, desk: Desk) -> Iterator[int]:
    """Serve as long as the context lasts; gives the port. Raises TokensError and ListenError."""
    import uvicorn  # noqa: PLC0415  with the daemon, not with the settings

    from monitor.web.access import Access  # noqa: PLC0415
    from monitor.web.app import make_app  # noqa: PLC0415

    tokens = tokens_of(settings)
    with bound(settings) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(desk, Access(tokens, settings.loopback)),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )
        thread = threading.Thread(target=server.run, args=([listening],), name="http", daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def bound(settings: WebSettings) -> Iterator[socket.socket]:
    """A socket that listens there. Raises ListenError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise ListenError(f"web.listen: {settings.listen}: {(error.strerror or str(error)).lower()}") from None
        listening.listen(128)
        yield listening
