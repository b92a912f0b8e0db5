"""Binding symbols to the shapes of arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trine.errors import ShapeError
from trine.shapes.dim import (
    Dim,
    Shape,
    Size,
    are,
    constant_term,
    counted,
    listed,
    number_of,
    substitute,
    symbols,
    values_text,
)
from trine.shapes.rules import format_shape


def bind(where: str, spec: Shape, actual: tuple[int, ...], bindings: dict[str, int]) -> None:
    """Extend `bindings` so that `spec` equals `actual`, as far as sizes with one unknown symbol determine it.

    A size that cannot be solved yet is left; call `check` when all arguments are bound, or use `bind_all`. On an error
    `bindings` may hold names from the axes before it.

    Raises:
        ShapeError: the ranks or a size contradict `spec` or an earlier binding.
    """
    _bind(where, spec, actual, bindings)


def bind_all(where: str, specs: Sequence[Shape], actuals: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The values of all symbols that make each spec equal its actual shape, whatever the order of the arguments.

    Raises:
        ShapeError: a contradiction, or sizes that do not determine their symbols.

    Example:
        >>> from trine.shapes import bind_all, parse
        >>> bind_all("step", [(parse("2*n"), 3), (parse("n"),)], [(8, 3), (4,)])
        {'n': 4}
    """
    if len(specs) != len(actuals):
        raise ShapeError(where, f"the specification has {counted(len(specs), 'shape')}, {len(actuals)} came")
    bindings: dict[str, int] = {}
    pending = list(zip(specs, actuals, strict=True))
    solved = -1
    while pending and len(bindings) != solved:
        solved = len(bindings)
        pending = [pair for pair in pending if not _bind(where, *pair, bindings)]
    for spec, actual in pending:
        check(where, spec, actual, bindings)
    return bindings


def check(where: str, spec: Shape, actual: tuple[int, ...], bindings: Mapping[str, int]) -> None:
    """Return nothing where `spec` under `bindings` is exactly `actual`.

    Raises:
        ShapeError: a symbol is not determined, or the shapes differ.
    """
    for size in spec:
        unknown = sorted(symbols(size) - bindings.keys())
        if unknown:
            raise ShapeError(
                where,
                f"{size} does not determine {listed(unknown)}",
                got=_pair_text(spec, actual),
                fix=f"an argument that has {listed(unknown)} as a size of its own",
            )
    _bind(where, spec, actual, dict(bindings))


def _bind(where: str, spec: Shape, actual: tuple[int, ...], bindings: dict[str, int]) -> bool:
    """Bind what can be bound; whether all of `spec` is determined."""
    if spec == actual:
        return True
    if len(spec) != len(actual):
        rule = f"the specification has {counted(len(spec), 'axis')}, here there {are(len(actual))}"
        raise ShapeError(where, rule, got=_pair_text(spec, actual))
    before, complete = len(bindings), True
    for axis, (size, value) in enumerate(zip(spec, actual, strict=True)):
        if isinstance(size, int):
            fits = size == value
        elif size._name:
            fits = bindings.setdefault(size._name, value) == value
        else:
            solved = _solve(size, value, bindings)
            fits = solved is not False
            complete &= solved is not None
        if not fits:
            raise ShapeError(where, _contradiction(size, value, axis, bindings, before), got=_pair_text(spec, actual))
    return complete


def _solve(size: Dim, value: int, bindings: dict[str, int]) -> bool | None:
    """Bind the one unknown of a linear size: True where it fits, False where it cannot, None where it is open."""
    if symbols(size) <= bindings.keys():
        return number_of(size, bindings, "size") == value
    rest = substitute(size, bindings)
    if isinstance(rest, int):
        return None if rest == value else False
    constant = constant_term(rest)
    monomial, coefficient = rest._terms[0]
    if len(rest._terms) != (2 if constant else 1) or len(monomial) != 1 or not isinstance(monomial[0], str):
        return None
    number, inexact = divmod(value - constant, coefficient)
    if inexact or number < 0:
        return False
    bindings[monomial[0]] = number
    return True


def _contradiction(size: Size, value: int, axis: int, bindings: Mapping[str, int], before: int) -> str:
    if isinstance(size, int):
        return f"axis {axis} is {size} in the specification, here it is {value}"
    names = sorted(symbols(size))
    if not all(name in bindings for name in names):
        unknown = [name for name in names if name not in bindings]
        known = values_text(names, bindings)
        return f"no size {unknown[0]} makes {size} equal {value}" + (f" where {known}" if known else "")
    late = list(bindings)[before:]
    origin = "axis" if all(name in late for name in names) else "argument"
    if size._name:
        return f"{size} is {bindings[size._name]} from an earlier {origin}, here it is {value}"
    number = number_of(size, bindings, "size")
    return f"{size} is {number}, where {values_text(names, bindings)} from an earlier {origin}; here it is {value}"


def _pair_text(spec: Shape, actual: Shape) -> str:
    return f"{format_shape(actual)} for {format_shape(spec)}"
