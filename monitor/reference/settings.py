"""Which reference is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic

from monitor.calibration import LEAST_PERIODS
from monitor.settings import DAY, Duration, Moment, Settings, format_duration

_KEYS = {
    "learned": ("size", "until"),
    "seasonal": ("period", "size", "until"),
    "file": ("path",),
    "rolling": ("size", "gap"),
}
"""Kind of reference -> the keys that go with it."""


class ReferenceSettings(Settings):
    """What windows are held against."""

    kind: Literal["learned", "seasonal", "file", "rolling"] = "learned"
    """`learned`: the first part of each stream. `seasonal`: the same, by the time of a cycle. `file`: what `driftd
    reference build` made. `rolling`: the last part before the window, and the first part beside it."""
    size: Duration | None = None
    """Length of the learning period of each stream, from its first slice; 24h unless `until` is given. Of `rolling`
    the length of both references."""
    until: Moment | None = None
    """End of the learning period."""
    path: Path | None = None
    """The file; a relative path is looked for beside the configuration."""
    period: Annotated[Duration, pydantic.Field(gt=0)] | None = None
    """Of `seasonal`, how long the cycle is; two of them at least are learned."""
    gap: Duration | None = None
    """Least time between a rolling reference and a window; without it, the longest of the windows."""

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        for name in ("size", "until", "path", "period", "gap"):
            if getattr(self, name) is not None and name not in _KEYS[self.kind]:
                kinds = " or ".join(f"`kind: {kind}`" for kind, keys in _KEYS.items() if name in keys)
                raise ValueError(f"`{name}` goes with {kinds}, not with `kind: {self.kind}`")
        if self.size is not None and self.until is not None:
            raise ValueError("give size or until, not both")
        if self.kind == "file" and self.path is None:
            raise ValueError("`kind: file` needs a `path`, of a file that `driftd reference build` made")
        if self.kind == "rolling" and self.size is None:
            raise ValueError("`kind: rolling` needs a `size`, as in `size: 7d`")
        if self.kind == "seasonal":
            self._two_periods()
        return self

    def _two_periods(self) -> None:
        if self.period is None:
            raise ValueError("`kind: seasonal` needs a `period`, as in `period: 1d`")
        least = format_duration(2 * self.period)
        if self.size is None and self.until is None:
            raise ValueError(f"`kind: seasonal` needs a `size` of two periods at least, {least}, or an `until`")
        if self.size is not None and self.size < 2 * self.period:
            given = format_duration(self.size)
            raise ValueError(f"a `size` of {given} holds less than two periods: {least} at least")

    def end(self, begin: int, origin: int) -> int:
        """When a scope that was first seen at `begin` has learned; `origin` is when the first of all was seen.

        With `until`, a scope that misses more than half of the time before it, or has less than two periods of it,
        learns for as long as the others did.
        """
        if self.until is None:
            return begin + (DAY if self.size is None else self.size)
        full = max(self.until - origin, 0)
        least = max(full / 2, min(LEAST_PERIODS * (self.period or 0), full))
        return self.until if self.until - begin >= least else begin + full
