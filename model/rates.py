"""Rates as people read them."""

import math


def percent(share: float) -> str:
    """A rate in 0 to 1 in per cent; a dash where there was nothing to count.

    >>> percent(0.125)
    '12.5 %'
    """
    return rate(share) if math.isnan(share) else f"{rate(share)} %"


def rate(share: float) -> str:
    """The same without the sign, where the head of a table has it."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
