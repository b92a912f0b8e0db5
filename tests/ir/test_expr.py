"""Scalar expressions refuse what no instruction takes, are one object where they are equal, and read as text."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.ops.evaluator import evaluate, exact_value
from trine import dtypes
from trine.errors import CompileError
from trine.ir import expr
from trine.ir.expr import INSTRUCTIONS, Expr, constant, convert, instruction, parameter, postorder, select, size
from trine.shapes import Dim

X, Y = parameter(0, dtypes.float32), parameter(1, dtypes.float32)
N, FLAG, HALF = parameter(0, dtypes.int32), parameter(0, dtypes.bool), parameter(0, dtypes.float16)

REFUSED: dict[str, Callable[[], Expr]] = {
    "add: takes operands of one dtype\n  got: f32, i32\n  try: convert(x, dtype)": lambda: expr.add(X, N),
    "sqrt: takes f32, f64\n  got: f16\n  try: convert(x, dtype)": lambda: expr.sqrt(HALF),
    "div: takes f32, f64\n  got: i32, i32\n  try: convert(x, dtype)": lambda: expr.div(N, N),
    "fma: takes 3 operands, not 2\n  got: f32, f32": lambda: instruction("fma", X, Y),
    "select: is no instruction on operands of one dtype\n  got: bool, f32": lambda: instruction("select", FLAG, X),
    "exp3: is no instruction on operands of one dtype\n  got: f32": lambda: instruction("exp3", X),
    "select: takes a bool and two operands of one dtype\n  got: f32, f32, f32": lambda: select(X, X, Y),
    "bitcast: takes and gives numbers of one width\n  got: f32 as i16": lambda: expr.bitcast(X, dtypes.int16),
    "constant: 0.1 is not a value of float32\n  got: 0.1": lambda: constant(0.1, dtypes.float32),
    "constant: 300 is not a value of int8\n  got: 300": lambda: constant(300, dtypes.int8),
    "constant: 1.0 is not a value of int8\n  got: 1.0": lambda: constant(1.0, dtypes.int8),
    "constant: 2 is not a value of bool\n  got: 2": lambda: constant(2, dtypes.bool),
    f"constant: {2**64} is not a value of uint64\n  got: {2**64}": lambda: constant(2**64, dtypes.uint64),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_wrong_combinations_are_refused(text: str) -> None:
    with pytest.raises(CompileError) as caught:
        REFUSED[text]()
    lines = str(caught.value).splitlines()
    assert [line for line in lines if not line.startswith("  at ")] == text.splitlines()


def test_equal_expressions_are_one_object_and_different_ones_are_not() -> None:
    assert expr.add(X, Y) is expr.add(X, Y)
    assert hash(expr.add(X, Y)) == hash(expr.add(X, Y))
    assert expr.add(X, Y) != expr.add(Y, X)
    assert constant(0.0, dtypes.float32) != constant(-0.0, dtypes.float32)
    assert constant(math.nan, dtypes.float32) is constant(math.nan, dtypes.float32)
    assert constant(1, dtypes.float32) is constant(1.0, dtypes.float32)
    assert constant(1, dtypes.int8) != constant(1, dtypes.int16)
    assert convert(X, dtypes.float32) is X


def test_threads_that_make_equal_expressions_get_one_object() -> None:
    def made(_: int) -> list[Expr]:
        return [expr.add(X, constant(i, dtypes.float32)) for i in range(200)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(made, range(16)))
    assert all(a is b for other in found for a, b in zip(found[0], other, strict=True))


def test_expressions_do_not_change_and_survive_pickling_and_copying() -> None:
    root = expr.add(X, constant(-0.0, dtypes.float32))
    with pytest.raises(AttributeError):
        root.op = "sub"  # type: ignore[misc]  # frozen
    assert pickle.loads(pickle.dumps(root)) is root
    assert copy.deepcopy(root) is root


def test_text_names_what_is_read_more_than_once() -> None:
    total = expr.add(X, Y)
    root = select(expr.lt(total, constant(0, dtypes.float32)), expr.neg(total), convert(FLAG, dtypes.float32))
    assert str(root) == "t0 = add(x0:f32, x1:f32)\nselect(lt(t0, 0.0:f32), neg(t0), convert:f32(x0:bool))"
    assert str(size(Dim.symbol("n") * 2)) == "2*n:i64"
    assert size(3) is constant(3, dtypes.int64)


def test_order_of_a_long_chain_needs_no_deep_stack() -> None:
    root = X
    for _ in range(5000):
        root = expr.add(root, Y)
    order = postorder(root)
    assert (len(order), order[0], order[-1]) == (5002, X, root)
    assert postorder(X, Y, X) == [X, Y]


def test_every_instruction_says_what_it_takes_and_means() -> None:
    for name, rule in INSTRUCTIONS.items():
        assert rule.takes, name
        assert rule.meaning, name


def test_fused_multiply_and_add_rounds_once() -> None:
    a, b = 1.0 + 2.0**-12, 1.0 - 2.0**-12
    root = instruction("fma", X, Y, constant(-1.0, dtypes.float32))
    found = evaluate([root], [np.full(1, a, np.float32), np.full(1, b, np.float32)])[0]
    assert found.tolist() == [-(2.0**-24)] == [exact_value(root, [a, b])]
