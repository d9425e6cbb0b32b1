"""A database connection that breaks off in the middle of a commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Mortal:
    """Calls `die`, which does not return, before its `steps`-th statement."""

    def __init__(self, connection: Any, steps: int, die: Callable[[], object]) -> None:
        self.connection, self.steps, self.die = connection, steps, die

    def __getattr__(self, name: str) -> Any:
        if name in {"execute", "executemany"}:
            if self.steps == 0:
                self.die()
            self.steps -= 1
        return getattr(self.connection, name)
