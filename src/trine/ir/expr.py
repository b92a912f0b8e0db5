"""Scalar expressions: one element of a result as instructions on one element of each operand.

The set of instructions is closed: `INSTRUCTIONS` says of each which dtypes it takes and what it means, to the bit but
for the named functions, whose bounds are in `docs/numerics.md`. Arithmetic takes no half types: whoever lowers converts
to the compute dtype and back, so every rounding is an instruction that can be seen.

Equal expressions are one object. Part of an expression that is read twice is therefore there once, comparing takes no
time, and `postorder` gives each instruction once, operands first: the order in which to generate code.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import Final, NamedTuple

import numpy as np

from trine import dtypes
from trine.dtypes import DType
from trine.errors import CompileError
from trine.shapes import Size

_MADE: Final[weakref.WeakValueDictionary[tuple[object, ...], Expr]] = weakref.WeakValueDictionary()
_LOCK: Final = RLock()


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Expr:
    """An instruction and its operands; made by the functions of this module, which check it.

    Attributes:
        op: the instruction's name, a key of `INSTRUCTIONS`.
        operands: what it reads.
        dtype: of its value.
        value: the number of a constant, the position of a parameter, the size of a size; None elsewhere.
    """

    op: str
    operands: tuple[Expr, ...]
    dtype: DType
    value: Size | float | None = None

    def __str__(self) -> str:
        """As text; what is read more than once is a line of its own, in front."""
        return _text(self)

    __repr__ = __str__

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy by structure, so that identity holds."""
        return _made, (self.op, self.operands, self.dtype, self.value)


def _made(op: str, operands: tuple[Expr, ...], dtype: DType, value: Size | float | None = None) -> Expr:
    key = (op, operands, dtype, repr(value))  # as text: 0.0 and -0.0 differ, NaN is itself
    with _LOCK:
        return _MADE.setdefault(key, Expr(op, operands, dtype, value))


class Instruction(NamedTuple):
    """What there is to know of an instruction; its operands share one dtype, but for the condition of `select`.

    Attributes:
        arity: the number of operands.
        takes: the dtypes they may have.
        gives: the dtype of the value; None for that of the operands, or one that is asked for.
        meaning: one sentence.
    """

    arity: int
    takes: tuple[DType, ...]
    gives: DType | None
    meaning: str


INSTRUCTIONS: Final[dict[str, Instruction]] = {}

_ALL: Final = dtypes.ALL
_WIDE: Final = (dtypes.float32, dtypes.float64)
_FLOATS: Final = dtypes.FLOATS
_INTEGERS: Final = dtypes.INTEGERS
_ARITHMETIC: Final = (*_INTEGERS, *_WIDE)
_SIGNED: Final = (*_INTEGERS, *_FLOATS)
_BITS: Final = (dtypes.bool, *_INTEGERS)


def _define(name: str, arity: int, takes: tuple[DType, ...], meaning: str, gives: DType | None = None) -> None:
    INSTRUCTIONS[name] = Instruction(arity, takes, gives, meaning)


def instruction(name: str, *operands: Expr) -> Expr:
    """The named instruction on operands of one dtype: for names that are data; elsewhere, the functions below.

    Raises:
        CompileError: no such instruction, too many or too few operands, or of dtypes that it does not take.
    """
    rule, got = INSTRUCTIONS.get(name), ", ".join(x.dtype.code for x in operands)
    if rule is None or not rule.arity or name in ("select", "convert", "bitcast"):
        raise CompileError(name, "is no instruction on operands of one dtype", got=got)
    if len(operands) != rule.arity:
        raise CompileError(name, f"takes {rule.arity} operands, not {len(operands)}", got=got)
    if any(x.dtype is not operands[0].dtype for x in operands):
        raise CompileError(name, "takes operands of one dtype", got=got, fix="convert(x, dtype)")
    if operands[0].dtype not in rule.takes:
        raise CompileError(name, f"takes {', '.join(d.code for d in rule.takes)}", got=got, fix="convert(x, dtype)")
    return _made(name, operands, rule.gives or operands[0].dtype)


def _one(name: str, takes: tuple[DType, ...], meaning: str) -> Callable[[Expr], Expr]:
    _define(name, 1, takes, meaning)
    return lambda x: instruction(name, x)


def _two(name: str, takes: tuple[DType, ...], meaning: str, gives: DType | None = None) -> Callable[[Expr, Expr], Expr]:
    _define(name, 2, takes, meaning, gives)
    return lambda a, b: instruction(name, a, b)


# -- The instructions --------------------------------------------------------------------------------------------------

_define("constant", 0, _ALL, "the number `value`")
_define("parameter", 0, _ALL, "the element of operand number `value`")
_define("size", 0, (dtypes.int64,), "the number that the symbolic size `value` has when the program runs")

add: Final = _two("add", _ARITHMETIC, "a + b, rounded once; of integers, modulo 2**bits")
sub: Final = _two("sub", _ARITHMETIC, "a - b, rounded once; of integers, modulo 2**bits")
mul: Final = _two("mul", _ARITHMETIC, "a b, rounded once; of integers, modulo 2**bits")
div: Final = _two("div", _WIDE, "a / b, rounded once")
fmod: Final = _two("fmod", _WIDE, "a - trunc(a / b) b, exact, with the sign of a; NaN for infinite a or b = 0")
_define("fma", 3, _WIDE, "a b + c, rounded once")
sqrt: Final = _one("sqrt", _WIDE, "the square root, rounded once")
floor: Final = _one("floor", _WIDE, "the largest integer not above x; like all roundings, -0.0 stays")
ceil: Final = _one("ceil", _WIDE, "the smallest integer not below x")
trunc: Final = _one("trunc", _WIDE, "x without its fraction")
rint: Final = _one("rint", _WIDE, "the nearest integer, ties to even")

idiv: Final = _two("idiv", _INTEGERS, "a / b truncated; undefined for b = 0 and for the most negative a with b = -1")
irem: Final = _two("irem", _INTEGERS, "a - idiv(a, b) b, with the sign of a; undefined where idiv is")
ipow: Final = _two("ipow", _INTEGERS, "a to the power b, modulo 2**bits; any value for b < 0")

neg: Final = _one("neg", _SIGNED, "-x: of floats the sign bit, of integers modulo 2**bits")
absolute: Final = _one("abs", _SIGNED, "|x|: of floats the sign bit, of integers modulo 2**bits")
copysign: Final = _two("copysign", _FLOATS, "a with the sign bit of b")
maximum: Final = _two("maximum", _SIGNED, "the larger; NaN if either is NaN; +0.0 is above -0.0")
minimum: Final = _two("minimum", _SIGNED, "the smaller; NaN if either is NaN; -0.0 is below +0.0")

eq: Final = _two("eq", _ALL, "a = b; False beside NaN", dtypes.bool)
lt: Final = _two("lt", _ALL, "a < b, False below True; False beside NaN", dtypes.bool)
le: Final = _two("le", _ALL, "a <= b, False below True; False beside NaN", dtypes.bool)
_define("select", 3, _ALL, "the second operand where the first, a bool, holds, else the third; the other is ignored")

and_: Final = _two("and", _BITS, "bit by bit")
or_: Final = _two("or", _BITS, "bit by bit")
xor: Final = _two("xor", _BITS, "bit by bit")
not_: Final = _one("not", _BITS, "bit by bit; of a bool, the other one")
shl: Final = _two("shl", _INTEGERS, "a shifted left by b; any value unless 0 <= b < bits")
lshr: Final = _two("lshr", _INTEGERS, "a shifted right by b, zeros filling up; any value unless 0 <= b < bits")
ashr: Final = _two("ashr", _INTEGERS, "a shifted right by b, the top bit filling up; any value unless 0 <= b < bits")

_define("convert", 1, _ALL, "x in another dtype by the casts of docs/numerics.md, section 7: to floats rounded once, "
        "integers modulo 2**bits, floats to integers truncated and saturated, NaN to 0; to bool, x != 0")  # fmt: skip
_define("bitcast", 1, _SIGNED, "the bits of x as another dtype of the same width")

FUNCTIONS: Final = (
    "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "asinh", "acosh", "atanh", "erf", "pow", "atan2",
)  # fmt: skip
for _name in FUNCTIONS:
    _define(_name, 2 if _name in ("pow", "atan2") else 1, _WIDE, "the function; docs/numerics.md, section 8")


def constant(value: float, dtype: DType) -> Expr:
    """A number, which the dtype holds exactly.

    Raises:
        CompileError: it does not.
    """
    try:
        with np.errstate(all="ignore"):
            held = np.asarray(value).astype(dtype.numpy).item()
    except OverflowError:  # an int of more than 64 bits
        held = None
    if (type(value) is float and not dtype.is_float) or (held != value and value == value):
        raise CompileError("constant", f"{value!r} is not a value of {dtype.name}", got=repr(value))
    return _made("constant", (), dtype, held)


def parameter(position: int, dtype: DType) -> Expr:
    """The element of an operand, which are counted from 0."""
    return _made("parameter", (), dtype, position)


def size(n: Size) -> Expr:
    """A size as int64: a constant, or known when the program runs."""
    return constant(n, dtypes.int64) if isinstance(n, int) else _made("size", (), dtypes.int64, n)


def select(condition: Expr, x1: Expr, x2: Expr) -> Expr:
    """`x1` where the condition holds, else `x2`.

    Raises:
        CompileError: the condition is no bool, or the two values differ in dtype.
    """
    if condition.dtype is not dtypes.bool or x1.dtype is not x2.dtype:
        raise CompileError("select", "takes a bool and two operands of one dtype",
                           got=f"{condition.dtype.code}, {x1.dtype.code}, {x2.dtype.code}")  # fmt: skip
    return _made("select", (condition, x1, x2), x1.dtype)


def convert(x: Expr, dtype: DType) -> Expr:
    """`x` in another dtype: itself where it has it."""
    return x if x.dtype is dtype else _made("convert", (x,), dtype)


def bitcast(x: Expr, dtype: DType) -> Expr:
    """The bits of `x` as another dtype: itself where it has it.

    Raises:
        CompileError: the widths differ, or one of both is bool.
    """
    if dtypes.bool in (x.dtype, dtype) or x.dtype.bits != dtype.bits:
        raise CompileError("bitcast", "takes and gives numbers of one width", got=f"{x.dtype.code} as {dtype.code}")
    return x if x.dtype is dtype else _made("bitcast", (x,), dtype)


# -- Reading -----------------------------------------------------------------------------------------------------------


def postorder(*roots: Expr) -> list[Expr]:
    """Every instruction that the roots need, once, each after its operands."""
    found: dict[Expr, None] = {}
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        x, ready = stack.pop()
        if ready:
            found[x] = None
        elif x not in found:
            stack.append((x, True))
            stack.extend((part, False) for part in reversed(x.operands))
    return list(found)


def _text(root: Expr) -> str:
    order = postorder(root)
    readers = {x: 0 for x in order}
    for x in order:
        for part in x.operands:
            readers[part] += 1
    text: dict[Expr, str] = {}
    lines: list[str] = []
    for x in order:
        text[x] = _own_text(x, text)
        if x.operands and readers[x] > 1:
            lines.append(f"t{len(lines)} = {text[x]}")
            text[x] = f"t{len(lines) - 1}"
    return "\n".join([*lines, text[root]])


def _own_text(x: Expr, text: dict[Expr, str]) -> str:
    if x.op == "parameter":
        return f"x{x.value}:{x.dtype.code}"
    if not x.operands:
        return f"{x.value}:{x.dtype.code}"
    to = f":{x.dtype.code}" if x.op in ("convert", "bitcast") else ""
    return f"{x.op}{to}({', '.join(text[part] for part in x.operands)})"
