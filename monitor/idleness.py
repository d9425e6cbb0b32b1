"""Since when nothing comes of each partition of a live source, and how much time passes while all are silent.

Pure: the readings of the clock are arguments, in seconds; what comes of them goes into the store as a fact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Idleness:
    """Which partitions are idle: at their end, as their source confirms, with nothing new for `idle_after` seconds.

    >>> idleness = Idleness(60.0)
    >>> idleness.idle(["a", "b"], at_end=["a"], came=["b"], now=0.0), idleness.idle(["a", "b"], ["a"], [], now=60.0)
    (set(), {'a'})
    """

    idle_after: float
    _since: dict[str, float] = field(default_factory=dict)
    _silent: float | None = None

    def idle(self, read: Iterable[str], at_end: Collection[str], came: Collection[str], now: float) -> set[str]:
        """Partitions that are idle now.

        Parameters
        ----------
        read : partitions that were asked for messages; for any other one waiting begins anew, since it is held back
        at_end : partitions that are at their end by an answer asked for after all of them had been read; where there
            is none, because their source cannot be reached, waiting begins anew
        came : partitions of which something came
        now : reading of a clock that never goes back

        """
        self._since = {
            name: self._since.get(name, now) if name in at_end and name not in came else now for name in read
        }
        return {name for name, since in self._since.items() if name in at_end and now - since >= self.idle_after}

    def elapsed(self, *, silent: bool, now: float) -> int:
        """Whole milliseconds since the last call, as far as all was silent at both; the rest of one is kept."""
        if not silent or self._silent is None:
            self._silent = now if silent else None
            return 0
        passed = int((now - self._silent) * 1000)
        self._silent += passed / 1000
        return passed
