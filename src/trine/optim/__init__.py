"""Optimisers, learning-rate schedules, and gradient clipping, with Keras's names and defaults."""

from __future__ import annotations

from typing import Any, Final

from trine.errors import DTypeError, NameLookupError, Site, nearest
from trine.ops.base import user_site
from trine.optim.adam import Adam, AdamW
from trine.optim.clipping import clip_by_global_norm, clip_by_norm, clip_by_value, global_norm
from trine.optim.optimizer import Optimizer
from trine.optim.rmsprop import RMSprop
from trine.optim.schedules import (
    SCHEDULES,
    CosineDecay,
    ExponentialDecay,
    PiecewiseConstantDecay,
    Schedule,
)
from trine.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineDecay",
    "ExponentialDecay",
    "Optimizer",
    "PiecewiseConstantDecay",
    "RMSprop",
    "Schedule",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "get",
    "global_norm",
]

OPTIMIZERS: Final[dict[str, type[Optimizer]]] = {"adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "sgd": SGD}


def get(optimizer: str | dict[str, Any] | Optimizer) -> Optimizer:
    """The optimiser of a name (`"adam"`, `"Adam"`) or of a `config()`; an optimiser is returned as it is.

    Raises:
        NameLookupError: no optimiser or schedule has the name.
        DTypeError: neither a name, a config nor an optimiser.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return _named("optimizer", optimizer, OPTIMIZERS)()  # type: ignore[no-any-return]  # a subclass of Optimizer
    given: Any = optimizer
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        fix = f"{given.__name__}()" if isinstance(given, type) and issubclass(given, Optimizer) else 'optimizer="adam"'
        raise DTypeError("optimizer", "an optimizer is a name or an object of trine.optim", got=f"{optimizer!r:.60}",
                         fix=fix).locate(Site(*user_site()))  # fmt: skip
    options = dict(given)
    made = _named("optimizer", options.pop("name"), OPTIMIZERS)
    rate = options.get("learning_rate")
    if isinstance(rate, dict):
        schedule = dict(rate)
        options["learning_rate"] = _named("schedule", schedule.pop("name"), SCHEDULES)(**schedule)
    return made(**options)  # type: ignore[no-any-return]  # a subclass of Optimizer


def _named(kind: str, name: str, known: dict[str, Any]) -> Any:
    names = {key.lower(): value for key, value in known.items()}
    found = names.get(name.lower())
    if found is None:
        raise NameLookupError(kind, f"no {kind} is called {name!r}", got=repr(name), fix=nearest(name, names)).locate(
            Site(*user_site()))  # fmt: skip
    return found
