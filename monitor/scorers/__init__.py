"""What is measured of every record: a row of SCORERS for every scorer that a configuration may name.

Nothing here loads a model: a scorer that needs a heavy library imports it when it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from monitor.contracts import Scorer
from monitor.scorers.operational import Operational
from monitor.scorers.text import Text
from monitor.settings import Settings


class ScorerKind(NamedTuple):
    """What a configuration may say of a scorer, and what makes the scorer from it."""

    settings: type[Settings] | None
    """None where there is nothing to set."""
    make: Callable[..., Scorer]
    """Takes an instance of `settings`, or nothing."""


SCORERS: dict[str, ScorerKind] = {
    "text": ScorerKind(None, Text),
    "operational": ScorerKind(None, Operational),
}
"""Name of a scorer -> how it is set and made."""
