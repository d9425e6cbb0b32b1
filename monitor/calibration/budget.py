"""The false-alarm budget, and what each test may spend of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pydantic

from monitor.model import Flags, Floats, Scope
from monitor.settings import DAY, Duration, Settings


class FalseAlarmSettings(Settings):
    """The budget: drift alerts that enter firing though nothing changed."""

    at_most: Annotated[float, pydantic.Field(gt=0)] = 1
    per: Annotated[Duration, pydantic.Field(gt=0)] = 30 * DAY


def thresholds(
    settings: FalseAlarmSettings, series: Mapping[Scope, float], lengths: Sequence[int]
) -> dict[int, dict[bool, float]]:
    """Error probability that each test of one series may spend: slice length -> (is a segment's) -> threshold.

    The budget is split in half between whole streams and segments where both exist, evenly over the series alive
    (`series`: scope -> how many), over the window sizes and over the slices that come in its period. Windows that
    overlap are counted as if they did not (union bound).

    >>> budget = FalseAlarmSettings(at_most=1, per="30d")
    >>> round(thresholds(budget, {Scope("bot"): 10}, [10_000])[10_000][False] * 10 * 30 * DAY)
    10000
    """
    alive = {False: 0.0, True: 0.0}
    for scope, count in series.items():
        alive[scope.segment is not None] += count
    kinds = max(sum(count > 0 for count in alive.values()), 1)
    return {
        length: {
            is_segment: settings.at_most / kinds / max(count, 1) / len(lengths) * length / settings.per
            for is_segment, count in alive.items()
        }
        for length in lengths
    }


@dataclass(slots=True)
class Spending:
    """What has been spent of the budget: the error probabilities of all tests so far, added up."""

    expected: float = 0.0
    """False alarms to be expected if nothing ever changed, at most (union bound)."""
    begun: int | None = None
    """Begin of the first slice whose end was judged, in milliseconds."""
    last: int = 0
    """The last step at which something was judged."""

    def add(self, now: int, length: int, probability: float) -> None:
        """Tests were made at `now`, the end of a slice of this length, that may all err together with `probability`."""
        self.expected += probability
        self.begun = now - length if self.begun is None else min(self.begun, now - length)
        self.last = max(self.last, now)

    def ratio(self, settings: FalseAlarmSettings) -> float | None:
        """Of what the budget allows for the time that was judged, the part that is spent; None before the first test.

        >>> spending = Spending()
        >>> for day in range(1, 16):
        ...     spending.add(day * DAY, DAY, 1 / 60)
        >>> round(spending.ratio(FalseAlarmSettings(at_most=1, per="30d")), 3)
        0.5
        """
        if self.begun is None:
            return None
        return self.expected / (settings.at_most * (self.last - self.begun) / settings.per)


def decided(p_value: Floats, threshold: Floats, effect: Floats, matters: Floats) -> Flags:
    """Drift: beyond the threshold, and by as much as matters."""
    return (p_value <= threshold) & (np.abs(effect) >= matters)
