"""Which reference is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import pydantic

from monitor.settings import DAY, Duration, Moment, Settings

_KEYS = {"learned": ("size", "until"), "file": ("path",), "rolling": ("size", "gap")}
"""Kind of reference -> the keys that go with it."""


class ReferenceSettings(Settings):
    """What windows are held against."""

    kind: Literal["learned", "file", "rolling"] = "learned"
    """`learned`: the first part of each stream. `file`: what `driftd reference build` made. `rolling`: the last part
    before the window, and the first part beside it."""
    size: Duration | None = None
    """Length of the learning period of each stream, from its first slice; 24h unless `until` is given. Of `rolling`
    the length of both references."""
    until: Moment | None = None
    """End of the learning period."""
    path: Path | None = None
    """The file; a relative path is looked for beside the configuration."""
    gap: Duration | None = None
    """Least time between a rolling reference and a window; without it, the longest of the windows."""

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        for name in ("size", "until", "path", "gap"):
            if getattr(self, name) is not None and name not in _KEYS[self.kind]:
                kinds = " or ".join(f"`kind: {kind}`" for kind, keys in _KEYS.items() if name in keys)
                raise ValueError(f"`{name}` goes with {kinds}, not with `kind: {self.kind}`")
        if self.size is not None and self.until is not None:
            raise ValueError("give size or until, not both")
        if self.kind == "file" and self.path is None:
            raise ValueError("`kind: file` needs a `path`, of a file that `driftd reference build` made")
        if self.kind == "rolling" and self.size is None:
            raise ValueError("`kind: rolling` needs a `size`, as in `size: 7d`")
        return self

    def end(self, begin: int, origin: int) -> int:
        """When a scope that was first seen at `begin` has learned; `origin` is when the first of all was seen.

        With `until`, a scope that misses more than half of the time before it learns for as long as the others did.
        """
        if self.until is None:
            return begin + (DAY if self.size is None else self.size)
        full = max(self.until - origin, 0)
        return self.until if self.until - begin >= full / 2 else begin + full
