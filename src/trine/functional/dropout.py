"""Dropout: elements set to 0, the others scaled so that the mean stays."""

from __future__ import annotations

from trine.errors import ArgumentError, Site
from trine.ops.base import V, user_site
from trine.ops.elementwise import multiply, where


def dropout(x: V, keep: V, rate: float) -> V:
    """`x / (1 - rate)` where `keep` holds, 0 elsewhere.

    Args:
        x: floats.
        keep: bools that broadcast to the shape of `x`, each true with chance `1 - rate`.
        rate: the chance with which an element is dropped, from 0 to 1.

    Raises:
        ArgumentError: the rate is outside of [0, 1].

    Source: Srivastava et al., "Dropout" (2014), JMLR 15, with the scaling during training ("inverted").
    """
    check_rate("dropout", rate)
    return where(keep, multiply(x, 1.0 / (1.0 - rate) if rate < 1 else 0.0), 0)


def check_rate(name: str, rate: object) -> None:
    """Refuse a rate that is no chance.

    Raises:
        ArgumentError: the rate is outside of [0, 1], or no number.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        percent = rate if isinstance(rate, int | float) and 1 < rate <= 100 else 0
        fix = f"{percent / 100} for {percent} percent" if percent else ""
        raise ArgumentError(name, "the rate is the chance with which an element is dropped, from 0 to 1",
                            got=f"rate={rate!r}", fix=fix).locate(Site(*user_site()))  # fmt: skip
