"""Sizes that are numbers or symbols: a size is an `int` or a `Dim`, a polynomial over named sizes.

Long because it is one algebra: canonical forms, quotients, bounds, text and substitution are defined by each other.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Final, TypeAlias

from trine.errors import ArgumentError, ShapeError

Size: TypeAlias = "int | Dim"
Shape: TypeAlias = "tuple[Size, ...]"
_Factor: TypeAlias = "str | _Atom"
_Monomial: TypeAlias = "tuple[_Factor, ...]"

_WHERE: Final = "size"
_RELAXATIONS: Final = 3
_MAX_NESTING: Final = 100


class Dim:
    """An immutable polynomial with integer coefficients over named sizes, each an integer >= 0.

    `+ - * // %` with sizes give sizes; a result without symbols comes back as `int`. `//` and `%` are exact where the
    polynomial divides and a symbol of their own elsewhere; a divisor is taken not to be 0, which `evaluate` checks.
    `==` compares canonical forms and is always a `bool`; `<`, `bool()` and `int()` answer where one answer holds for
    all values of the symbols and raise `ShapeError` elsewhere; `same` says whether two sizes are provably equal.

    Example:
        >>> batch = Dim.symbol("batch")
        >>> batch * 28 * 28 // 784 == batch, 2 * batch + 1, (batch + 1) // 2
        (True, 2*batch + 1, (batch + 1)//2)
    """

    __slots__ = ("_hash", "_name", "_terms", "_text")
    __array_ufunc__ = None  # NumPy's integers leave the operation to Dim

    _terms: tuple[tuple[_Monomial, int], ...]
    _name: str
    _hash: int
    _text: str

    def __init__(self, terms: tuple[tuple[_Monomial, int], ...]) -> None:
        """Keep canonical terms; `Dim.symbol`, `parse` and arithmetic are the ways to a `Dim`."""
        monomial, coefficient = terms[0]
        lone = len(terms) == 1 and coefficient == 1 and len(monomial) == 1
        put = object.__setattr__
        put(self, "_terms", terms)
        put(self, "_name", monomial[0] if lone and isinstance(monomial[0], str) else "")
        put(self, "_hash", hash(terms))
        put(self, "_text", "")

    @staticmethod
    def symbol(name: str) -> Dim:
        """The size called `name`, an identifier such as `batch`; `ArgumentError` for any other text."""
        if not name.isidentifier() or name in ("max", "min"):
            raise ArgumentError(
                _WHERE,
                "the name of a size is an identifier other than max and min",
                got=repr(name),
                fix="a name such as batch",
            )
        return Dim((((name,), 1),))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a `Dim` is a value."""
        raise AttributeError(f"a Dim does not change: {name} cannot be set")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy as text."""
        return parse, (str(self),)

    def __hash__(self) -> int:
        """Equal for equal polynomials."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Whether the canonical forms are the same; never true of an `int`."""
        return self is other or (isinstance(other, Dim) and self._hash == other._hash and self._terms == other._terms)

    def __str__(self) -> str:
        """The polynomial as `parse` reads it."""
        if not self._text:
            object.__setattr__(self, "_text", _text(self))
        return self._text

    __repr__ = __str__

    def __add__(self, other: Size) -> Size:
        """The sum."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _sum(self, right, 1)

    __radd__ = __add__

    def __sub__(self, other: Size) -> Size:
        """The difference, which may be negative."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _sum(self, right, -1)

    def __rsub__(self, other: Size) -> Size:
        """The difference, which may be negative."""
        left = _operand(other)
        if left is None:
            return NotImplemented
        return _sum(left, self, -1)

    def __neg__(self) -> Size:
        """The polynomial with its signs turned."""
        return _sum(0, self, -1)

    def __mul__(self, other: Size) -> Size:
        """The product."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _product(self, right)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        """The quotient, rounded down."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return floor_quotient(self, right)

    def __rfloordiv__(self, other: Size) -> Size:
        """The quotient, rounded down."""
        left = _operand(other)
        if left is None:
            return NotImplemented
        return floor_quotient(left, self)

    def __mod__(self, other: Size) -> Size:
        """The remainder, with the divisor's sign."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _mod(self, right)

    def __rmod__(self, other: Size) -> Size:
        """The remainder, with the divisor's sign."""
        left = _operand(other)
        if left is None:
            return NotImplemented
        return _mod(left, self)

    def __lt__(self, other: Size) -> bool:
        """Whether the difference is negative for all sizes."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _compare(self, right, "<")

    def __le__(self, other: Size) -> bool:
        """Whether the difference is negative or 0 for all sizes."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _compare(self, right, "<=")

    def __gt__(self, other: Size) -> bool:
        """Whether the difference is positive for all sizes."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _compare(self, right, ">")

    def __ge__(self, other: Size) -> bool:
        """Whether the difference is positive or 0 for all sizes."""
        right = _operand(other)
        if right is None:
            return NotImplemented
        return _compare(self, right, ">=")

    def __bool__(self) -> bool:
        """Whether the size differs from 0 for all sizes of its symbols."""
        answer = same(self, 0)
        if answer is None:
            raise _undecided(f"whether {self} is 0", self)
        return not answer

    def __index__(self) -> int:
        """The number, where only one is possible."""
        size = _simplest(self)
        low = lower_bound(size)
        if low == upper_bound(size):
            return int(low)
        raise _undecided(f"which number {self} is", self)

    __int__ = __index__


@dataclass(frozen=True, slots=True)
class _Atom:
    """A quotient, a remainder or a positive part (`op` is `//`, `%` or `max`) that no polynomial expresses."""

    op: str
    left: Size
    right: Size

    def __str__(self) -> str:
        if self.op == "max":
            return f"max({self.left}, 0)"
        return f"{_operand_text(self.left)}{self.op}{_operand_text(self.right)}"


# --- canonical polynomials


def _operand(value: object) -> Size | None:
    if isinstance(value, int | Dim):
        return value
    return int(value) if isinstance(value, Integral) else None


def terms_of(size: Size) -> dict[_Monomial, int]:
    """The coefficient of each monomial."""
    return {(): size} if isinstance(size, int) else dict(size._terms)


def _order(term: tuple[_Monomial, int]) -> tuple[int, list[str]]:
    return -len(term[0]), [str(factor) for factor in term[0]]


def _size(terms: Mapping[_Monomial, int]) -> Size:
    kept = [(monomial, coefficient) for monomial, coefficient in terms.items() if coefficient]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Dim(tuple(sorted(kept, key=_order)))


def _sum(a: Size, b: Size, sign: int) -> Size:
    terms = terms_of(a)
    for monomial, coefficient in terms_of(b).items():
        terms[monomial] = terms.get(monomial, 0) + sign * coefficient
    return _size(terms)


def _product(a: Size, b: Size) -> Size:
    terms: dict[_Monomial, int] = {}
    for left, x in terms_of(a).items():
        for right, y in terms_of(b).items():
            monomial = tuple(sorted(left + right, key=str))
            terms[monomial] = terms.get(monomial, 0) + x * y
    return _size(terms)


def _scaled(size: Size, divisor: int) -> Size:
    """`size / divisor`, exact but for the constant, which is rounded down."""
    return _size({monomial: coefficient // divisor for monomial, coefficient in terms_of(size).items()})


def _leading(size: Size) -> int:
    return size if isinstance(size, int) else size._terms[0][1]


def constant_term(dim: Dim) -> int:
    """The coefficient of the monomial without factors."""
    monomial, coefficient = dim._terms[-1]
    return 0 if monomial else coefficient


def _content(dim: Dim) -> int:
    """The greatest common divisor of all coefficients but the constant."""
    return math.gcd(*(coefficient for monomial, coefficient in dim._terms if monomial))


def _shifted_atom(size: Dim, op: str) -> tuple[_Atom, int] | None:
    """The atom and the number that add up to `size`, where it is such a sum."""
    shift = constant_term(size)
    if len(size._terms) != (2 if shift else 1):
        return None
    monomial, coefficient = size._terms[0]
    if coefficient != 1 or len(monomial) != 1 or isinstance(monomial[0], str) or monomial[0].op != op:
        return None
    return monomial[0], shift


def _atom(op: str, left: Size, right: Size) -> Size:
    dim = Dim((((_Atom(op, left, right),), 1),))
    low = lower_bound(dim)
    return int(low) if low == upper_bound(dim) else dim


# --- quotients, remainders, positive parts


def _truncated(a: int, b: int) -> int:
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def _zero_divisor(a: Size) -> ShapeError:
    return ShapeError(_WHERE, f"{a} is divided by 0", fix="a divisor of 1 or more")


def floor_quotient(a: Size, b: Size) -> Size:
    """`a // b`, exact where the polynomial divides."""
    if isinstance(b, int):
        if b == 0:
            raise _zero_divisor(a)
        return _floor_number(a, b) if b > 0 else _floor_number(-a, -b)
    if isinstance(a, int) and a == 0:
        return 0
    _, a, b = _without_common_factor(a, b)
    if isinstance(b, int):
        return floor_quotient(a, b)
    quotient, rest = _quotient(a, b)
    if quotient != 0:
        return quotient + floor_quotient(rest, b)
    return 0 if lower_bound(a) >= 0 and lower_bound(b - a) > 0 else _atom("//", a, b)


def _floor_number(a: Size, b: int) -> Size:
    """`a // b` for `b > 0`: what divides is taken out, then sign, common factors and nesting are normalised."""
    if isinstance(a, int):
        return a // b
    quotient, rest = _divided_terms(a, b)
    if isinstance(rest, int):
        return quotient
    if _leading(rest) < 0:
        return quotient - _floor_number(b - 1 - rest, b)
    common = math.gcd(b, _content(rest))
    if common > 1:
        return quotient + _floor_number(_scaled(rest, common), b // common)
    nested = _shifted_atom(rest, "//")
    if nested is not None and isinstance(nested[0].right, int):
        inner, shift = nested
        return quotient + _floor_number(inner.left + shift * nested[0].right, nested[0].right * b)
    if lower_bound(rest) >= 0 and upper_bound(rest) < b:
        return quotient
    return quotient + _atom("//", rest, b)


def _mod(a: Size, b: Size) -> Size:
    if isinstance(b, int):
        if b == 0:
            raise _zero_divisor(a)
        return _mod_number(a, b) if b > 0 else -_mod_number(-a, -b)
    if isinstance(a, int) and a == 0:
        return 0
    factor, left, right = _without_common_factor(a, b)
    if factor != 1:
        return factor * _mod(left, right)
    quotient, rest = _quotient(a, b)
    if quotient != 0:
        return _mod(rest, b)
    return a if lower_bound(a) >= 0 and lower_bound(b - a) > 0 else _atom("%", a, b)


def _mod_number(a: Size, b: int) -> Size:
    if isinstance(a, int):
        return a % b
    _, rest = _divided_terms(a, b)
    if isinstance(rest, int):
        return rest
    common = math.gcd(b, _content(rest))
    if common > 1:
        return common * _mod_number(_scaled(rest, common), b // common) + constant_term(rest) % common
    return rest if lower_bound(rest) >= 0 and upper_bound(rest) < b else _atom("%", rest, b)


def _divided_terms(a: Dim, b: int) -> tuple[Size, Size]:
    """`q, r` with `a == q*b + r`, term by term; the constant of `r` is in `0 .. b - 1`."""
    quotient = _size({m: _truncated(c, b) if m else c // b for m, c in a._terms})
    return quotient, a - quotient * b


def _without_common_factor(a: Size, b: Dim) -> tuple[Size, Size, Size]:
    """`f, x, y` with `a == f*x` and `b == f*y`, where f is one term and y leads with a positive coefficient."""
    terms = [*terms_of(a).items(), *b._terms]
    shared = Counter(terms[0][0])
    for monomial, _ in terms:
        shared &= Counter(monomial)
    number = math.gcd(*(coefficient for _, coefficient in terms)) * (1 if _leading(b) > 0 else -1)

    def reduce(size: Size) -> Size:
        return _size({_remove(monomial, shared): c // number for monomial, c in terms_of(size).items()})

    return _size({tuple(sorted(shared.elements(), key=str)): number}), reduce(a), reduce(b)


def _remove(monomial: _Monomial, factors: Counter[_Factor]) -> _Monomial:
    return tuple(sorted((Counter(monomial) - factors).elements(), key=str))


def _quotient(a: Size, b: Dim) -> tuple[Size, Size]:
    """`q, r` with `a == q*b + r`: the terms that a single term divides, or all or nothing for a divisor of several."""
    lead, divisor = b._terms[0]
    need = Counter(lead)
    if len(b._terms) == 1:
        parts = {_remove(m, need): _truncated(c, divisor) for m, c in terms_of(a).items() if need <= Counter(m)}
        quotient = _size(parts)
        return quotient, a - quotient * b
    total: Size = 0
    rest = a
    while isinstance(rest, Dim):
        monomial, coefficient = rest._terms[0]
        if coefficient % divisor or not need <= Counter(monomial):
            return 0, a
        step = _size({_remove(monomial, need): coefficient // divisor})
        total, rest = total + step, rest - step * b
    return (total, 0) if rest == 0 else (0, a)


def positive_part(size: Size) -> Size:
    """`max(size, 0)`, the one atom that `max_size` and `min_size` are written with."""
    if isinstance(size, int):
        return max(size, 0)
    if lower_bound(size) >= 0:
        return size
    if upper_bound(size) <= 0:
        return 0
    if _leading(size) < 0:
        return size + positive_part(-size)
    common = math.gcd(_content(size), constant_term(size))
    if common > 1:
        return common * positive_part(_scaled(size, common))
    nested = _shifted_atom(size, "max")
    if nested is not None and nested[1] < 0:
        return positive_part(nested[0].left + nested[1])
    return _atom("max", size, 0)


def max_size(a: Size, b: Size) -> Size:
    """The larger of two sizes, exact where it depends on symbols: `max(batch - 1, 0)`."""
    return b + positive_part(a - b)


def min_size(a: Size, b: Size) -> Size:
    """The smaller of two sizes, exact where it depends on symbols: `min(batch, 3)`."""
    return a - positive_part(a - b)


# --- bounds and comparison


@lru_cache(maxsize=4096)
def lower_bound(size: Size, budget: int = _RELAXATIONS) -> float:
    """A number that `size` never falls below: the best of interval arithmetic and of up to `budget` relaxed atoms."""
    if isinstance(size, int):
        return size
    best = sum(_term_low(monomial, c, budget) for monomial, c in size._terms)
    if budget == 0:
        return best
    for monomial, coefficient in size._terms:
        if len(monomial) == 1 and isinstance(monomial[0], _Atom):
            rest = size - _size({monomial: coefficient})
            best = max(best, _relaxed(monomial[0], coefficient, rest, budget - 1))
    return best


def upper_bound(size: Size, budget: int = _RELAXATIONS) -> float:
    """A number that no value of the size exceeds; infinity where none is found."""
    return -lower_bound(-size, budget)


def _term_low(monomial: _Monomial, coefficient: int, budget: int) -> float:
    low: float = coefficient
    high: float = coefficient
    for factor in monomial:
        bottom, top = _range(factor, budget)
        ends = [x * y if x and y else 0 for x in (low, high) for y in (bottom, top)]
        low, high = min(ends), max(ends)
    return low


def _range(factor: _Factor, budget: int) -> tuple[float, float]:
    if isinstance(factor, str):
        return 0, math.inf
    low, high = lower_bound(factor.left, budget), upper_bound(factor.left, budget)
    if factor.op == "max":
        return max(low, 0), max(high, 0)
    if lower_bound(factor.right, budget) < 0:
        return -math.inf, math.inf
    if factor.op == "%":
        top = upper_bound(factor.right, budget) - 1
        return 0, min(high, top) if low >= 0 else top
    if isinstance(factor.right, int):
        return _floor_bound(low, factor.right), _floor_bound(high, factor.right)
    return min(low, 0), max(high, 0)


def _floor_bound(bound: float, divisor: int) -> float:
    return bound if math.isinf(bound) else bound // divisor


def _relaxed(atom: _Atom, coefficient: int, rest: Size, budget: int) -> float:
    """A lower bound of `coefficient*atom + rest` with the atom replaced by what bounds it from the needed side."""
    a, b = atom.left, atom.right
    if atom.op == "max":
        ends = lower_bound(rest, budget), lower_bound(rest + coefficient * a, budget)
        return max(ends) if coefficient > 0 else min(ends)
    if atom.op == "//" and isinstance(b, int):
        bound = a if coefficient < 0 else a - b + 1
        return -_floor_bound(-lower_bound(coefficient * bound + b * rest, budget), b)
    if coefficient < 0 and lower_bound(a, budget) >= 0 and lower_bound(b, budget) >= 0:
        return lower_bound(coefficient * a + rest, budget)
    return -math.inf


def same(a: Size, b: Size) -> bool | None:
    """Whether two sizes are equal: True or False where it holds for all values, None where it is open."""
    if a == b:
        return True
    difference = _simplest(a - b)
    if isinstance(difference, int):
        return difference == 0
    low, high = lower_bound(difference), upper_bound(difference)
    if low > 0 or high < 0 or constant_term(difference) % _content(difference):
        return False
    return True if low == high == 0 else None


def _compare(left: Size, right: Size, sign: str) -> bool:
    difference = _simplest(left - right if sign[0] == "<" else right - left)
    limit = 0 if "=" in sign else -1
    if upper_bound(difference) <= limit:
        return True
    if lower_bound(difference) > limit:
        return False
    raise _undecided(f"whether {left} {sign} {right}", difference)


def _undecided(question: str, size: Size) -> ShapeError:
    names = listed(sorted(symbols(size)))
    return ShapeError(
        _WHERE,
        f"it is open {question}: {names} can be any size from 0 up",
        fix=f"{as_numbers(size)}, or write the step so that it need not know",
    )


def listed(words: Sequence[object]) -> str:
    """`a, b and c`."""
    texts = [str(word) for word in words]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


# --- text


def _operand_text(size: Size) -> str:
    plain = size >= 0 if isinstance(size, int) else bool(size._name)
    return str(size) if plain else f"({size})"


def _text(dim: Dim) -> str:
    text = _min_text(dim)
    for monomial, coefficient in () if text else dim._terms:
        lead = not text
        sign = ("-" if lead else " - ") if coefficient < 0 else ("" if lead else " + ")
        text += sign + _term_text(monomial, abs(coefficient), bare=not (lead and coefficient < 0))
    return text


def _term_text(monomial: _Monomial, coefficient: int, bare: bool) -> str:
    factors = [] if coefficient == 1 and monomial else [str(coefficient)]
    bare = bare and not factors and len(monomial) == 1
    for factor in monomial:
        plain = bare or isinstance(factor, str) or factor.op == "max"
        factors.append(str(factor) if plain else f"({factor})")
    return "*".join(factors)


def _min_text(dim: Dim) -> str:
    """`min(a, number)` for `a - max(a - number, 0)`; empty for all else."""
    for monomial, coefficient in dim._terms:
        if coefficient == -1 and len(monomial) == 1 and isinstance(monomial[0], _Atom) and monomial[0].op == "max":
            rest = dim + Dim(((monomial, 1),))
            number = rest - monomial[0].left
            if isinstance(number, int):
                return f"min({rest}, {number})"
    return ""


_TOKEN: Final = re.compile(r"\s+|[0-9]{1,18}(?![0-9])|[^\W\d]\w*|//|[-+*%(),]")


def parse(text: str) -> Size:
    """The size that `str` wrote or a user states: numbers, names, `+ - * // %`, `max(,)`, `min(,)` and parentheses.

    Raises:
        ArgumentError: the text is none of this; the message holds the position.

    Example:
        >>> parse("(batch + 1)//2"), parse("3*4")
        ((batch + 1)//2, 12)
    """
    return _Parser(text).whole()


class _Parser:
    """A recursive-descent reader of sizes; Python's precedence."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.tokens: list[tuple[str, int]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(position)
            if not match[0].isspace():
                self.tokens.append((match[0], position))
            position = match.end()
        self.tokens.append(("", end))
        self.at = 0

    def error(self, position: int) -> ArgumentError:
        there = f"{self.text[position]!r} at position {position}" if position < len(self.text) else "its end"
        return ArgumentError(
            _WHERE, f"the text is no size from {there} on", got=repr(self.text), fix="a size such as 2*batch + 1"
        )

    def take(self, *signs: str) -> str:
        token = self.tokens[self.at][0]
        if token and token in signs:
            self.at += 1
            return token
        return ""

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise self.error(self.tokens[self.at][1])

    def whole(self) -> Size:
        size = self.sum()
        if self.tokens[self.at][0]:
            raise self.error(self.tokens[self.at][1])
        return size

    def sum(self) -> Size:
        total = self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            total = total + term if sign == "+" else total - term
        return total

    def product(self) -> Size:
        total = self.factor()
        while sign := self.take("*", "//", "%"):
            factor = self.factor()
            total = (
                total * factor
                if sign == "*"
                else floor_quotient(total, factor)
                if sign == "//"
                else _mod(total, factor)
            )
        return total

    def factor(self) -> Size:
        self.depth += 1
        if self.depth > _MAX_NESTING:
            raise self.error(self.tokens[self.at][1])
        size = self.atom()
        self.depth -= 1
        return size

    def atom(self) -> Size:
        token, position = self.tokens[self.at]
        if self.take("-"):
            return -self.factor()
        if self.take("("):
            size = self.sum()
            self.need(")")
            return size
        if self.take("max", "min"):
            return self.extreme(token)
        if token[:1].isdecimal():
            self.at += 1
            return int(token)
        if token.isidentifier():
            self.at += 1
            return Dim.symbol(token)
        raise self.error(position)

    def extreme(self, name: str) -> Size:
        self.need("(")
        a = self.sum()
        self.need(",")
        b = self.sum()
        self.need(")")
        return max_size(a, b) if name == "max" else min_size(a, b)


# --- symbols and their values


def symbols(size: Size) -> frozenset[str]:
    """The names of all sizes that `size` depends on."""
    if isinstance(size, int):
        return frozenset()
    names: set[str] = set()
    for monomial, _ in size._terms:
        for factor in monomial:
            names |= {factor} if isinstance(factor, str) else symbols(factor.left) | symbols(factor.right)
    return frozenset(names)


def _mapped(size: Size, factor_value: Callable[[_Factor], Size]) -> Size:
    if isinstance(size, int):
        return size
    total: Size = 0
    for monomial, coefficient in size._terms:
        term: Size = coefficient
        for factor in monomial:
            term = term * factor_value(factor)
        total = total + term
    return total


def _applied(op: str, left: Size, right: Size) -> Size:
    if op == "//":
        return floor_quotient(left, right)
    return _mod(left, right) if op == "%" else positive_part(left)


def _without_remainders(size: Size) -> Size:
    """The same polynomial with `a % b` written `a - b*(a//b)`, so that quotients and remainders cancel."""

    def value(factor: _Factor) -> Size:
        if isinstance(factor, str):
            return Dim.symbol(factor)
        left, right = _without_remainders(factor.left), _without_remainders(factor.right)
        return left - right * floor_quotient(left, right) if factor.op == "%" else _applied(factor.op, left, right)

    return _mapped(size, value)


def _simplest(size: Size) -> Size:
    """The number that `size` is where its remainders cancel, otherwise `size`, whose remainders have tighter bounds."""
    cancelled = _without_remainders(size)
    return cancelled if isinstance(cancelled, int) else size


def substitute(size: Size, values: Mapping[str, Size]) -> Size:
    """The size with the symbols in `values` replaced by numbers or sizes; other symbols stay.

    Example:
        >>> substitute(parse("2*batch + n"), {"batch": 16, "n": parse("m*m")})
        m*m + 32
    """

    def value(factor: _Factor) -> Size:
        if isinstance(factor, str):
            found = values.get(factor)
            return Dim.symbol(factor) if found is None else found
        return _applied(factor.op, substitute(factor.left, values), substitute(factor.right, values))

    return _mapped(size, value)


def evaluate(size: Size, values: Mapping[str, int], where: str = _WHERE) -> int:
    """The number that `size` is when its symbols have these values.

    Raises:
        ShapeError: a symbol has no value, a divisor is 0, or the result is negative.
        ArgumentError: a value is negative.
    """
    if isinstance(size, int) and size >= 0:
        return size
    names = sorted(symbols(size))
    for name in names:
        if name not in values:
            raise ShapeError(where, f"{size} has no value while {name} has none", got=values_text(names, values))
        if values[name] < 0:
            raise ArgumentError(where, f"the size {name} is {values[name]}, sizes are 0 or more")
    result = number_of(size, values, where)
    if result < 0:
        raise ShapeError(where, f"{size} is {result}, sizes are 0 or more", got=values_text(names, values))
    return result


def number_of(size: Size, values: Mapping[str, int], where: str) -> int:
    """The size as a number."""

    def value(factor: _Factor) -> int:
        if isinstance(factor, str):
            return values[factor]
        left, right = number_of(factor.left, values, where), number_of(factor.right, values, where)
        if factor.op == "max":
            return max(left, right)
        if right == 0:
            raise ShapeError(where, f"{factor} divides by 0", got=values_text(sorted(symbols(size)), values))
        return left // right if factor.op == "//" else left % right

    if isinstance(size, int):
        return size
    return sum(c * math.prod(value(factor) for factor in monomial) for monomial, c in size._terms)


def values_text(names: Sequence[str], values: Mapping[str, int]) -> str:
    """`batch = 3, time = 5`."""
    return ", ".join(f"{name} = {values[name]}" for name in names if name in values)


# --- words for messages


def counted(number: int, noun: str) -> str:
    """`1 axis`, `2 axes`."""
    plural = {"axis": "axes"}.get(noun, noun + "s")
    return f"{number} {noun if number == 1 else plural}"


def are(number: int) -> str:
    """`is 1`, `are 2`."""
    return "is 1" if number == 1 else f"are {number}"


def as_numbers(*sizes: Size) -> str:
    """What to try where symbols stand in the way."""
    names = sorted(frozenset[str]().union(*map(symbols, sizes)))
    return f"give {listed(names)} as {'a number' if len(names) == 1 else 'numbers'} in trine.spec"
