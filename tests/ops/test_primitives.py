"""No holes: every primitive has a row in the table, a gradient or a reason, and an answer for every dtype."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import trine.ops
from tests.ops.cases import CASES
from tests.ops.test_table import seeded
from trine import dtypes
from trine.autodiff.reverse import gradients
from trine.dtypes import DType
from trine.errors import TrineError
from trine.ir.graph import Graph, Node, Type, reach
from trine.ops.base import Op
from trine.ops.steps import execute
from trine.tensor.creation import asarray

STEP = "piecewise constant: its derivative is 0 wherever it exists"
NOT_DIFFERENTIABLE = {
    "ceil": STEP,
    "floor": STEP,
    "floor_divide": STEP,
    "round": STEP,
    "sign": STEP,
    "trunc": STEP,
    "iota": "has no inputs",
    "size_value": "has no inputs",
    "identity": "the only row cuts the history; as a leaf it is part of every gradient",
}


def _subclasses(kind: type[Op]) -> Iterator[type[Op]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def primitives() -> dict[str, type[Op]]:
    """The concrete operations of `trine.ops.*` that compute something, by name."""
    for module in pkgutil.walk_packages(trine.ops.__path__, "trine.ops."):
        import_module(module.name)
    every = set(_subclasses(Op))  # a dataclass with slots leaves the class it was made from behind
    found = {kind for kind in every if getattr(sys.modules[kind.__module__], kind.__name__, None) is kind}
    families = {base for kind in found for base in kind.__mro__[1:]}
    return {
        kind.name: kind
        for kind in sorted(found - families, key=lambda kind: kind.name)
        if kind.__module__.startswith("trine.ops.") and kind.reference is not Op.reference
    }


@cache
def examples() -> dict[str, Node]:
    """For each primitive, the first node that a row naming it records: in its value or in its gradient."""
    wanted = primitives()
    found: dict[str, Node] = {}
    for case in CASES:
        missing = [name for name in case.primitives if name not in found]
        if missing:
            for node in _recorded(case):
                if node.op.name in missing and node.op.name in wanted:
                    found.setdefault(node.op.name, node)
    return found


def _recorded(case: Any) -> list[Node]:
    given = [asarray(a) for a in case.draw(seeded(case), "float32" if "float32" in case.dtypes() else case.dtypes()[0])]
    for i in case.differentiable:
        given[i].requires_grad = True
    root = case.function(*given).node
    ends = [root]
    if case.differentiable and root.type.dtype.is_float:
        slopes = gradients([root], [asarray(np.ones(root.type.shape, root.type.dtype.numpy)).node],
                           [given[i].node for i in case.differentiable])  # fmt: skip
        ends += [slope for slope in slopes if slope is not None]
    return reach(ends)


def test_every_primitive_has_a_row() -> None:
    named = {name for case in CASES for name in case.primitives}
    missing = sorted(primitives().keys() - named - {"output"})  # read through the operations with several results
    assert not missing, f"no row of tests/ops/cases_*.py names: {', '.join(missing)}"


def test_every_name_in_the_table_is_a_primitive_that_a_row_naming_it_records() -> None:
    named = {name for case in CASES for name in case.primitives}
    unknown = sorted(named - primitives().keys())
    assert not unknown, f"no primitive is called: {', '.join(unknown)}"
    unseen = sorted(named - examples().keys())
    assert not unseen, f"named, but recorded by no row that names it: {', '.join(unseen)}"


def test_rows_have_unique_names() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names), sorted({name for name in names if names.count(name) > 1})


def test_every_primitive_with_float_results_has_a_gradient_row_or_a_reason() -> None:
    checked = {name for case in CASES if case.differentiable for name in case.primitives}
    floats = {name for name, node in examples().items() if _results_in_floats(node)}
    missing = sorted(floats - checked - NOT_DIFFERENTIABLE.keys())
    assert not missing, f"neither a gradient row nor a reason: {', '.join(missing)}"
    both = sorted(checked & NOT_DIFFERENTIABLE.keys())
    assert not both, f"a gradient row and a reason against it: {', '.join(both)}"


def _results_in_floats(node: Node) -> bool:
    kinds: Any = node.type if node.op.several else (node.type,)
    return any(kind.dtype.is_float for kind in kinds)


# -- The matrix primitive x dtype --------------------------------------------------------------------------------------


def cells(node: Node) -> list[str]:
    """What a primitive makes of each dtype: the dtypes of its results, or `-` where it refuses."""
    varying = _varying(node)
    return [_cell(node, varying, dtype) for dtype in dtypes.ALL]


def _varying(node: Node) -> list[int]:
    """The inputs whose dtype varies: those that share the dtype of the result, else of the first input."""
    if node.op.several or all(value.type.dtype is not node.type.dtype for value in node.inputs):
        lead = node.inputs[0].type.dtype if node.inputs else None
    else:
        lead = node.type.dtype
    return [i for i, value in enumerate(node.inputs) if value.type.dtype is lead]


def _cell(node: Node, varying: list[int], dtype: DType) -> str:
    """An attribute that is a dtype (what to make, or to accumulate in) follows where the node's own is refused."""
    ops = [node.op] if node.inputs else []
    named = [field.name for field in fields(node.op) if isinstance(getattr(node.op, field.name, None), DType)]
    if named:
        kind = dtype.accumulator if node.inputs else dtype
        ops.append(replace(node.op, **{named[0]: kind}))
    types = [Type(v.type.shape, dtype if i in varying else v.type.dtype) for i, v in enumerate(node.inputs)]
    return next((cell for op in ops if (cell := _computed(op, types)) != "-"), "-")


def _computed(op: Op, types: list[Type]) -> str:
    try:
        result = op.infer(*types)
    except TrineError:
        return "-"
    with np.errstate(all="ignore"):
        computed = execute(op, [_filled(kind) for kind in types])
    results, arrays = (result, computed) if op.several else ((result,), (computed,))
    for kind, array in zip(results, arrays, strict=True):
        assert array.shape == kind.shape, f"{op} of {types}"
        assert dtypes.dtype(array.dtype) is kind.dtype, f"{op} of {types} is {array.dtype}, not {kind.dtype}"
    return ",".join(kind.dtype.code for kind in results)


def _filled(kind: Type) -> np.ndarray:
    """Ones, or zeros for integers of a fixed dtype, which may be indices."""
    fill: Callable[..., np.ndarray] = np.ones if kind.dtype.is_float or kind.dtype is dtypes.bool else np.zeros
    return fill(kind.shape, kind.dtype.numpy)


def _graphs(op: Op) -> bool:
    """Whether an attribute is a graph, whose types are fixed."""
    values = [getattr(op, field.name, None) for field in fields(op)]
    return any(isinstance(part, Graph) for value in values for part in (value if type(value) is tuple else (value,)))


def matrix() -> str:
    columns = [d.code for d in dtypes.ALL]
    lines = [
        "# What each primitive returns for inputs of a dtype; - where it refuses. Written by test_primitives.py.",
        "",
    ]
    lines.append(f"{'':26}" + "".join(f"{code:>10}" for code in columns))
    for name, node in sorted(examples().items()):
        if not _graphs(node.op):
            lines.append(f"{name:26}" + "".join(f"{cell:>10}" for cell in cells(node)))
    return "\n".join(lines) + "\n"


def test_every_primitive_computes_or_refuses_every_dtype(golden: Callable[[str, str], None]) -> None:
    """A raw NumPy error would fail here; a change of what is refused shows in the diff of the file."""
    golden("matrix.txt", matrix())


@pytest.mark.parametrize("to", dtypes.ALL, ids=lambda d: d.name)
def test_every_dtype_casts_to_every_other(to: DType) -> None:
    cast = primitives()["cast"]
    for source in dtypes.ALL:
        op = cast(to)  # type: ignore[call-arg]  # of Cast
        assert execute(op, [np.ones((2,), source.numpy)]).astype(np.float64).tolist() == [1.0, 1.0]
        assert op.infer(Type((2,), source)) == Type((2,), to)
