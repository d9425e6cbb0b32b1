"""What a window lacked that is `insufficient`, in words its owner can act on."""

from __future__ import annotations

import math

from monitor.settings import DAY, HOUR, MINUTE, SECOND, format_duration

LEAST_UNITS = 40
"""Units of a window below which nothing is said."""
LEAST_REFERENCE_UNITS = 240
"""Units of a reference below which nothing is said."""


def lacking(size: int, units: int, reference_units: float, detectable: float | None, matters: float) -> str:
    """Why a window of `size` (milliseconds) could not have been `ok`.

    What is detectable falls with the root of the window's units, as long as the reference holds many more.

    >>> lacking(3_600_000, 300, 9_000, 0.04, 0.02)
    'about 3h more at this traffic, to see a change of 0.02: this window sees 0.04'
    >>> lacking(3_600_000, 30, 9_000, None, 0.02)
    '40 units in the window: it has 30, about 20m more at this traffic'
    """
    if reference_units < LEAST_REFERENCE_UNITS:
        return f"{LEAST_REFERENCE_UNITS} units in the reference: it has {reference_units:.0f}"
    if units < LEAST_UNITS:
        more = f", about {rounded(size * (LEAST_UNITS / units - 1))} more at this traffic" if units else ""
        return f"{LEAST_UNITS} units in the window: it has {units}{more}"
    if detectable is None:
        return "more units in the window: it would have seen no change of this signal"
    if detectable <= matters:
        return "values frequent enough to be compared: most of the reference's are rare"
    more = rounded(size * ((detectable / matters) ** 2 - 1))
    return f"about {more} more at this traffic, to see a change of {matters:.3g}: this window sees {detectable:.3g}"


def rounded(milliseconds: float) -> str:
    """A duration to a tenth or better, upwards.

    >>> rounded(154_000_000), rounded(75_000)
    ('1d19h', '1m15s')
    """
    unit = next((unit for unit in (DAY, HOUR, MINUTE) if milliseconds >= 10 * unit), SECOND)
    return format_duration(math.ceil(round(milliseconds / unit, 6)) * unit)
