"""Control flow against Python loops: values, gradients, second gradients, vmap, errors."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trine import dtypes
from trine.autodiff.batching import batch_graph
from trine.context import using
from trine.engine import ENGINE
from trine.errors import ArgumentError, CaptureError, DTypeError, GradientError, ShapeError
from trine.ir.graph import Graph
from trine.ir.printer import to_text
from trine.ir.verify import verify
from trine.ops import elementwise as e
from trine.ops import movement, reduction
from trine.ops.base import Output
from trine.ops.control import Cond, Scan, While, cond, scan, while_loop
from trine.tensor.compile import compile
from trine.tensor.creation import asarray, zeros
from trine.tensor.tensor import Tensor
from trine.tensor.trace import spec, trace
from trine.tensor.transforms import grad, vmap

rng = np.random.default_rng(7)
XS = rng.normal(size=(5, 3))
H = rng.normal(size=3)
W = rng.normal(size=(3, 3)) * 0.5


def loop(f: Callable[..., Any], carry: Any, xs: Any, *, length: int | None = None, reverse: bool = False) -> Any:
    """`scan` as a Python loop over one tensor, for carries and results that are tensors or pairs of them."""
    steps = range(xs.shape[0] if xs is not None else length)
    ys: dict[int, Any] = {}
    for i in reversed(steps) if reverse else steps:
        carry, ys[i] = f(carry, None if xs is None else xs[i])
    stacked = [ys[i] for i in steps]
    if stacked and isinstance(stacked[0], tuple):
        return carry, tuple(movement.stack([y[k] for y in stacked]) for k in range(len(stacked[0])))
    return carry, movement.stack(stacked) if stacked and stacked[0] is not None else None


def total(tree: Any) -> Tensor:
    """A float that depends on every float of a result, each with another weight."""
    if isinstance(tree, Tensor):
        weights = asarray(np.cos(np.arange(tree.size)).reshape(tree.shape))
        return (tree * weights).sum()
    parts = [total(part) for part in (tree.values() if isinstance(tree, dict) else tree) if part is not None]
    result = parts[0]
    for part in parts[1:]:
        result = result + part * 0.7
    return result


def second(function: Callable[..., Tensor], count: int) -> Callable[..., Any]:
    """The gradient of a number made of all first gradients."""
    first = grad(function, tuple(range(count)))
    return grad(lambda *args: total([g * g + g for g in first(*args)]), tuple(range(count)))


def op_of(result: Tensor) -> Any:
    """The control flow that a result is part of."""
    return result.node.inputs[0].op


def check_derivatives(mine: Callable[..., Tensor], theirs: Callable[..., Tensor], *arrays: np.ndarray) -> None:
    args = [asarray(a) for a in arrays]
    np.testing.assert_allclose(mine(*args).numpy(), theirs(*args).numpy(), rtol=1e-12, atol=1e-12)
    for order in (lambda f: grad(f, tuple(range(len(args)))), lambda f: second(f, len(args))):
        for a, b in zip(order(mine)(*args), order(theirs)(*args), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)


# -- scan --------------------------------------------------------------------------------------------------------------


def body_rnn(w: Tensor, c: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    new = e.tanh(x + c @ w)
    return new, new * c


def body_emits_nothing(w: Tensor, c: Tensor, x: Tensor) -> tuple[Tensor, None]:
    return c * x + reduction.sum(w), None


def body_emits_carry(w: Tensor, c: Tensor, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    return e.sin(c + x @ w), (c, x * 2)


def body_cuts(w: Tensor, c: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    with using(grad=False):
        scale = e.exp(c * 0.1) + reduction.sum(w)
    return e.tanh(c * scale + x), e.stop_gradient(c @ w) * x


def body_constants_only(w: Tensor, c: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    decay = e.exp(-(w * w)).sum(axis=0)
    return c * decay, reduction.sum(w * w)


def body_ignores_carry(w: Tensor, c: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return x @ w, c


BODIES = [body_rnn, body_emits_nothing, body_emits_carry, body_cuts, body_constants_only, body_ignores_carry]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("body", BODIES)
def test_scan_and_its_derivatives_are_those_of_a_loop(body: Callable[..., Any], reverse: bool) -> None:
    def run(kind: Callable[..., Any]) -> Callable[..., Tensor]:
        return lambda h, xs, w: total(kind(lambda c, x: body(w, c, x), h, xs, reverse=reverse))

    check_derivatives(run(scan), run(loop), H, XS, W)


@pytest.mark.parametrize("reverse", [False, True])
def test_every_result_of_a_scan_is_that_of_the_loop(reverse: bool) -> None:
    h, xs, w = asarray(H), asarray(XS), asarray(W)
    for mine, theirs in zip(scan(lambda c, x: body_rnn(w, c, x), h, xs, reverse=reverse),
                            loop(lambda c, x: body_rnn(w, c, x), h, xs, reverse=reverse), strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_a_scan_without_sequences_takes_its_length() -> None:
    def run(kind: Callable[..., Any]) -> Callable[..., Tensor]:
        return lambda c, k: total(kind(lambda c, _: (e.sin(c * k), c), c, None, length=4))

    check_derivatives(run(scan), run(loop), H, H + 1)


def test_a_scan_of_length_zero_returns_the_carry_and_its_gradient() -> None:
    h, xs, w = asarray(H), asarray(XS[:0]), asarray(W)
    last, ys = scan(lambda c, x: body_rnn(w, c, x), h, xs)
    np.testing.assert_array_equal(last.numpy(), H)
    assert ys.shape == (0, 3) and ys.numpy().shape == (0, 3)
    slopes = grad(lambda h, xs, w: total(scan(lambda c, x: body_rnn(w, c, x), h, xs)), (0, 1, 2))(h, xs, w)
    np.testing.assert_array_equal(slopes[0].numpy(), np.cos(np.arange(3)))
    assert slopes[1].shape == (0, 3)
    np.testing.assert_array_equal(slopes[2].numpy(), np.zeros((3, 3)))


def test_carries_and_results_may_be_containers() -> None:
    def body(carry: dict[str, Any], x: tuple[Tensor, Tensor]) -> Any:
        a, b = x
        new = {"h": carry["h"] * a + b, "more": [carry["more"][0] + 1]}
        return new, {"square": new["h"] * new["h"], "step": new["more"][0]}

    start = {"h": asarray(H), "more": [0]}
    last, ys = scan(body, start, (asarray(XS), asarray(XS + 1)))
    h, squares = H, []
    for a, b in zip(XS, XS + 1, strict=True):
        h = h * a + b
        squares.append(h * h)
    assert list(last) == ["h", "more"] and last["more"][0].item() == 5
    np.testing.assert_allclose(last["h"].numpy(), h, rtol=1e-14)
    np.testing.assert_allclose(ys["square"].numpy(), squares, rtol=1e-14)
    assert ys["step"].tolist() == [1, 2, 3, 4, 5]


def test_a_carry_given_as_a_python_number_takes_the_dtype_of_what_it_meets() -> None:
    last, ys = scan(lambda c, x: (c + x, c), 0, asarray(XS[:, 0]))
    assert last.dtype is dtypes.float64 and ys.dtype is dtypes.float64
    np.testing.assert_allclose(last.item(), XS[:, 0].sum(), rtol=1e-14)


def test_integer_carries_have_no_cotangent_and_disturb_none() -> None:
    def run(kind: Callable[..., Any]) -> Callable[..., Tensor]:
        def body(carry: Any, x: Tensor) -> Any:
            i, c = carry
            return (i + 1, c * x + e.cast(i, dtypes.float64)), c

        return lambda h, xs: total(kind(body, (asarray(0), h), xs)[1])

    check_derivatives(run(scan), run(loop), H, XS)


def test_scans_nest() -> None:
    def run(kind: Callable[..., Any]) -> Callable[..., Tensor]:
        def outer(w: Tensor, c: Tensor, x: Tensor) -> Any:
            inner, ys = kind(lambda a, b: (e.tanh(a * w[0] + b * c), a * b), c, movement.stack([x, c]))
            return inner + x, reduction.sum(ys, axis=0)

        return lambda h, xs, w: total(kind(lambda c, x: outer(w, c, x), h, xs))

    check_derivatives(run(scan), run(loop), H, XS, W)


def test_the_gradient_of_a_gradient_inside_a_scan_is_that_of_the_loop() -> None:
    def run(kind: Callable[..., Any]) -> Callable[..., Tensor]:
        def descend(w: Tensor, c: Tensor, x: Tensor) -> Any:
            step = grad(lambda p: reduction.sum(e.tanh(p @ w + x)))(c)
            return c - step * 0.1, None

        return lambda h, xs, w: total(kind(lambda c, x: descend(w, c, x), h, xs)[0])

    check_derivatives(run(scan), run(loop), H, XS, W)


def test_backward_reaches_parameters_that_the_body_reads() -> None:
    w, b = asarray(W, requires_grad=True), asarray(H, requires_grad=True)
    _, ys = scan(lambda c, x: (e.tanh(c @ w + x + b),) * 2, zeros(3, dtype="float64"), asarray(XS))
    ys.sum().backward()
    mine = w.grad.numpy(), b.grad.numpy()
    w.grad = b.grad = None
    _, ys = loop(lambda c, x: (e.tanh(c @ w + x + b),) * 2, zeros(3, dtype="float64"), asarray(XS))
    ys.sum().backward()
    np.testing.assert_allclose(mine[0], w.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(mine[1], b.grad.numpy(), rtol=1e-12)


def test_backward_works_after_the_value_was_read() -> None:
    w = asarray(W, requires_grad=True)
    loss = total(scan(lambda c, x: body_rnn(w, c, x), asarray(H), asarray(XS)))
    before = loss.item()
    loss.backward()
    assert loss.item() == before
    expected = grad(lambda w: total(loop(lambda c, x: body_rnn(w, c, x), asarray(H), asarray(XS))))(asarray(W))
    np.testing.assert_allclose(w.grad.numpy(), expected.numpy(), rtol=1e-12)


def test_a_parameter_that_nothing_depends_on_gets_no_gradient() -> None:
    w, unused = asarray(W, requires_grad=True), asarray(H, requires_grad=True)
    last, _ = scan(lambda c, x: (c @ w + x, c * unused), asarray(H), asarray(XS))
    last.sum().backward()
    assert w.grad is not None and unused.grad is None


def test_what_depends_on_no_placeholder_is_computed_once_outside() -> None:
    w = asarray(W)
    last, _ = scan(lambda c, x: (c @ e.exp(w), None), asarray(H), asarray(XS))
    op = op_of(last)
    assert isinstance(op, Scan) and "exp" not in [node.op.name for node in op.body.nodes]


def test_a_body_that_is_recorded_again_is_the_same_operation_and_program() -> None:
    def run(scale: float) -> Tensor:
        return scan(lambda c, x: (e.where(c > 0.0, c * scale + x, 0.0), c), asarray(H), asarray(XS))[0]

    run(0.5).numpy()  # also what an earlier backward() left to do
    first = run(0.5)
    kept = op_of(first)  # operations that nobody uses are forgotten
    first.numpy()
    compiled = ENGINE.compiled
    again = run(0.5)
    assert op_of(again) is kept
    again.numpy()
    assert ENGINE.compiled == compiled
    assert op_of(run(0.25)) is not kept


def test_the_operation_holds_no_values_from_outside() -> None:
    def run() -> tuple[Any, weakref.ref[Any]]:
        w = asarray(W)
        last, _ = scan(lambda c, x: (c @ w, None), asarray(H), asarray(XS))
        op = op_of(last)
        last.numpy()
        return op, weakref.ref(w.node)

    op, node = run()
    gc.collect()
    assert isinstance(op, Scan) and node() is None


def test_an_rnn_by_scan_learns() -> None:
    """The last bit of a sequence three steps before its end."""
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2, (8, 64, 1)).astype("float32")
    target = asarray(bits[-3, :, 0])
    inputs = asarray(bits * 2 - 1)
    sizes = {"kernel": (1, 16), "recurrent": (16, 16), "out": (16, 1)}
    p = {k: asarray((draw.normal(size=s) * 0.3).astype("float32"), requires_grad=True) for k, s in sizes.items()}
    losses = []
    for _ in range(60):

        def cell(h: Tensor, x: Tensor) -> tuple[Tensor, None]:
            return e.tanh(x @ p["kernel"] + h @ p["recurrent"]), None

        h, _ = scan(cell, zeros((64, 16)), inputs)
        loss = (h @ p["out"]).reshape(-1) - target
        loss = (loss * loss).mean()
        loss.backward()
        losses.append(loss.item())
        with using(grad=False):
            for value in p.values():
                value.assign(value - value.grad * 0.2)
                value.grad = None
    assert losses[-1] < 0.3 * losses[0]


def test_a_compiled_step_reads_the_parameters_of_each_call_inside_a_scan() -> None:
    w = asarray(W * 0.5)

    def step(h: Tensor) -> Tensor:
        last, _ = scan(lambda c, x: (e.tanh(c @ w + x), None), h, asarray(XS))
        with using(grad=False):
            w.assign(w * 0.9)
        return last

    plain = [step(asarray(H)).numpy() for _ in range(5)]
    w.assign(asarray(W * 0.5))
    fast = compile(step)
    np.testing.assert_array_equal([fast(asarray(H)).numpy() for _ in range(5)], plain)
    assert fast.replayed > 0


def test_a_compiled_training_step_with_a_scan_is_the_step() -> None:
    def train(make: Callable[..., Any]) -> list[float]:
        w, h = asarray(W, requires_grad=True), asarray(H)

        def step(xs: Tensor) -> Tensor:
            last, ys = scan(lambda c, x: (e.tanh(c @ w + x), c * 2.0), h, xs)
            loss = (last * last).sum() + (ys * ys).mean()
            loss.backward()
            with using(grad=False):
                w.assign(w - w.grad * 0.1)
                w.grad = None
            return loss

        run = make(step)
        return [run(asarray(XS + i)).item() for i in range(5)]

    assert train(compile) == train(lambda step: step)


def test_the_gradient_of_a_traced_scan_runs_for_any_size() -> None:
    def slope(h: Tensor, xs: Tensor, w: Tensor) -> Any:
        def loss(h: Tensor, w: Tensor) -> Tensor:
            last, ys = scan(lambda c, x: (e.tanh(c @ w + x), c.sum(axis=1)), h, xs)
            return (last * last).sum() + (ys * ys).sum()

        return grad(loss, (0, 1))(h, w)

    graph = trace(slope, spec(("batch", 3), "float64"), spec(("time", "batch", 3), "float64"), spec((3, 3), "float64"))
    verify(graph.graph)
    for batch, time in ((2, 5), (4, 1), (1, 0)):
        args = [asarray(a) for a in (rng.normal(size=(batch, 3)), rng.normal(size=(time, batch, 3)), W)]
        for mine, theirs in zip(graph.run(*args), slope(*args), strict=True):
            np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_a_traced_scan_runs_for_any_size() -> None:
    w = asarray(W)
    graph = trace(lambda h, xs: scan(lambda c, x: (e.tanh(c @ w + x), c.sum(axis=1)), h, xs),
                  spec(("batch", 3), "float64"), spec(("time", "batch", 3), "float64"))  # fmt: skip
    verify(graph.graph)
    assert "body:" in to_text(graph.graph)
    for batch, time in ((2, 5), (4, 1), (1, 0)):
        h, xs = rng.normal(size=(batch, 3)), rng.normal(size=(time, batch, 3))
        last, ys = graph.run(h, xs)
        expected, rows = h, []
        for x in xs:
            rows.append(expected.sum(1))
            expected = np.tanh(expected @ W + x)
        np.testing.assert_allclose(last.numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(ys.numpy(), np.reshape(rows, (time, batch)), rtol=1e-12)


# -- cond --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [5.0, -5.0])
def test_cond_and_its_derivatives_are_those_of_the_branch_taken(shift: float) -> None:
    def run(kind: Callable[..., Any]) -> Callable[..., Tensor]:
        return lambda x, w: total(
            kind(x.sum() + shift > 0, lambda x: (e.sin(x @ w), x * 2), lambda x: (x * x, e.exp(x)), x)
        )

    def choose(pred: Any, yes: Any, no: Any, *operands: Any) -> Any:
        return yes(*operands) if pred else no(*operands)

    check_derivatives(run(cond), run(choose), H, W)


def test_cond_takes_known_and_python_predicates() -> None:
    x = asarray(H)
    for pred in (True, False, asarray(True), asarray(False)):
        found = cond(pred, lambda x: x + 1, lambda x: x - 1, x)
        np.testing.assert_array_equal(found.numpy(), H + 1 if pred else H - 1)


def test_only_the_branch_taken_runs() -> None:
    table = asarray(H)
    where = asarray(7)
    picked = cond(where < 3, lambda: movement.reshape(table[where], (1,)), lambda: zeros(1, dtype="float64"))
    assert picked.tolist() == [0.0]


def test_python_numbers_in_branches_take_the_other_dtype() -> None:
    assert cond(asarray(True), lambda: 1, lambda: asarray(2.5)).dtype is dtypes.float32
    assert cond(asarray(True), lambda: asarray(2.5), lambda: 1).dtype is dtypes.float32
    assert cond(asarray(True), lambda: 1, lambda: 2).dtype is dtypes.int64


def test_scan_in_cond_in_scan() -> None:
    def run(kind: Callable[..., Any], pick: Callable[..., Any]) -> Callable[..., Tensor]:
        def body(w: Tensor, c: Tensor, x: Tensor) -> Any:
            def long(c: Tensor) -> Tensor:
                return kind(lambda a, _: (e.tanh(a @ w), None), c, None, length=2)[0]

            return pick(x[0] > 0, long, lambda c: c * x, c), c

        return lambda h, xs, w: total(kind(lambda c, x: body(w, c, x), h, xs))

    assert {bool(x > 0) for x in XS[:, 0]} == {True, False}
    check_derivatives(run(scan, cond), run(loop, lambda p, yes, no, *a: yes(*a) if p else no(*a)), H, XS, W)


# -- while_loop --------------------------------------------------------------------------------------------------------


def test_while_loop_is_a_python_loop() -> None:
    n, seen = while_loop(lambda c: c[0] * c[0] < 50, lambda c: (c[0] + 1, c[1] * 2.0), (asarray(1), 1))
    assert (n.item(), seen.item()) == (8, 128.0) and seen.dtype is dtypes.float32


def test_a_while_loop_may_do_nothing() -> None:
    assert while_loop(lambda x: x < 0, lambda x: x + 1, asarray(3)).item() == 3


@pytest.mark.parametrize("limit", [0, 3, 20])
def test_a_bounded_while_loop_is_differentiable(limit: int) -> None:
    def mine(x: Tensor, w: Tensor) -> Tensor:
        return total(while_loop(lambda c: (c * c).sum() < 40.0, lambda c: c + e.exp(c @ w * 0.1), x, max_steps=limit))

    def theirs(x: Tensor, w: Tensor) -> Tensor:
        for _ in range(limit):
            if not (x * x).sum() < 40.0:
                break
            x = x + e.exp(x @ w * 0.1)
        return total(x)

    check_derivatives(mine, theirs, H, W)


def test_steps_after_the_end_of_a_bounded_loop_leave_no_nan_behind() -> None:
    """The body would divide by zero at the value where the loop ends."""
    slope = grad(lambda x: while_loop(lambda c: c > 0.0, lambda c: c - c / c * 0.5, x, max_steps=6))(asarray(1.0))
    assert slope.item() == 1.0


def test_the_gradient_of_an_unbounded_loop_names_max_steps() -> None:
    x = asarray(H, requires_grad=True)
    y = while_loop(lambda c: c.sum() < 9.0, lambda c: c + 1.0, x)
    with pytest.raises(GradientError) as caught:
        y.sum().backward()
    text = str(caught.value).splitlines()
    assert text[0] == "while_loop: a gradient is asked for, but the number of steps is not bounded, so none was stored"
    assert text[1].startswith("  at test_control.py:") and "y = while_loop(" in text[1]
    assert text[2:] == ["  got: f64[3]", "  try: trine.while_loop(cond_fn, body_fn, init, max_steps=n)"]


# -- vmap --------------------------------------------------------------------------------------------------------------


def check_vmap(function: Callable[..., Any], in_axes: Any, *arrays: np.ndarray) -> None:
    args = [asarray(a) for a in arrays]
    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
    size = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)

    def one(i: int) -> list[Any]:
        return [x if axis is None else asarray(np.take(a, i, axis)) for x, a, axis in
                zip(args, arrays, axes, strict=True)]  # fmt: skip

    expected = np.stack([function(*one(i)).numpy() for i in range(size)])
    np.testing.assert_allclose(vmap(function, in_axes)(*args).numpy(), expected, rtol=1e-12)


AXES = [(0, None, None), (None, 1, None), (None, None, 0), (0, 1, 0), (0, 0, None)]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("body", [body_rnn, body_emits_carry, body_cuts, body_ignores_carry])
def test_vmap_of_scan_is_a_loop(body: Callable[..., Any], reverse: bool, axes: tuple[int | None, ...]) -> None:
    h = rng.normal(size=(4, 3)) if axes[0] is not None else H
    xs = XS if axes[1] is None else rng.normal(size=(5, 4, 3)) if axes[1] == 1 else rng.normal(size=(4, 5, 3))
    w = rng.normal(size=(4, 3, 3)) if axes[2] is not None else W
    run = lambda h, xs, w: total(scan(lambda c, x: body(w, c, x), h, xs, reverse=reverse))  # noqa: E731 - the table wants one name for each function
    check_vmap(run, axes, h, xs, w)


def test_vmap_of_the_gradient_of_a_scan_and_the_gradient_of_its_vmap() -> None:
    hs = rng.normal(size=(4, 3))
    run = lambda h, xs, w: total(scan(lambda c, x: body_rnn(w, c, x), h, xs))  # noqa: E731 - the table wants one name for each function
    check_vmap(grad(run, 2), (0, None, None), hs, XS, W)
    mine = grad(lambda w: vmap(run, (0, None, None))(asarray(hs), asarray(XS), w).sum())(asarray(W))
    theirs = sum(grad(run, 2)(asarray(h), asarray(XS), asarray(W)).numpy() for h in hs)
    np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-12)


def test_vmap_batches_only_the_carries_that_need_it() -> None:
    def body(carry: Any, x: Tensor) -> Any:
        i, a, b = carry
        return (i + 1, a + x, b + a * 0.5), i

    def run(x: Tensor) -> Any:
        return scan(body, (asarray(0), asarray(0.0), asarray(0.0)), x)

    (i, a, b), ys = vmap(run)(asarray(XS.astype("float32")))
    op = op_of(b)
    assert isinstance(op, Scan)
    assert [node.type.shape for node in op.body.inputs[:3]] == [(), (5,), (5,)]
    assert i.tolist() == [3] * 5 and ys.shape == (5, 3) and a.shape == (5,)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_of_cond_is_a_loop(axes: tuple[int | None, ...]) -> None:
    xs = rng.normal(size=(6, 3)) if axes[0] == 0 else H
    ps = rng.normal(size=6) if axes[1] == 0 else np.asarray(1.0)
    run = lambda x, p: total(cond(p > 0, lambda x: (e.sin(x), p * 2), lambda x: (x * x, p), x))  # noqa: E731 - the table wants one name for each function
    check_vmap(run, axes, xs, ps)
    check_vmap(grad(run), axes, xs, ps)


def test_vmap_of_cond_runs_a_branch_only_on_examples_that_take_it() -> None:
    """The other examples would raise an error in it, or put infinities into its gradient."""
    table = asarray(H)
    check_vmap(lambda i: cond(i < 3, lambda i: table[i], lambda i: table[0] * 0.0, i), 0, np.asarray([0, 9, 2, 3]))
    check_vmap(lambda i: cond(i < 3, lambda i: table[i], lambda i: table[0] * 0.0, i), 0, np.asarray([9, 8]))
    slope = grad(lambda x: cond(x > 0.0, e.log, lambda x: x * 3.0, x))
    check_vmap(slope, 0, np.asarray([0.0, 2.0, -1.0]))
    check_vmap(slope, 0, np.asarray([0.0, -1.0]))


def test_vmap_of_while_leaves_examples_that_are_done_alone() -> None:
    """The body would raise an error on their last carry."""
    table = asarray(XS[0])

    def run(n: Tensor) -> Tensor:
        start = (asarray(0), asarray(0.0, dtype="float64"))
        return while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] + table[c[0]]), start)[1]

    check_vmap(run, 0, np.asarray([1, 3, 0, 2]))


def test_vmap_over_no_examples() -> None:
    run = lambda x: cond(x > 0.0, e.log, lambda x: x * 3.0, x)  # noqa: E731 - the table wants one name for each function
    assert vmap(run)(zeros(0)).shape == (0,)
    assert vmap(run)(zeros(0)).numpy().shape == (0,)
    found = vmap(lambda x: while_loop(lambda c: c < 9.0, lambda c: c + 1.0, x))(zeros(0))
    assert found.numpy().shape == (0,)


def test_vmap_of_cond_with_branches_of_which_one_is_batched() -> None:
    run = lambda x: cond(asarray(True), lambda: asarray(H), lambda: x)  # noqa: E731 - the table wants one name for each function
    check_vmap(run, 0, rng.normal(size=(6, 3)))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("steps", [None, 9])
def test_vmap_of_while_is_a_loop(axes: tuple[int | None, ...], steps: int | None) -> None:
    """Examples end after different numbers of steps, and those that are done keep their values."""
    limits = np.asarray([3.0, -1.0, 6.0]) if axes[0] == 0 else np.asarray(4.0)
    rates = np.asarray([1.1, 1.5, 0.7]) if axes[1] == 0 else np.asarray(1.3)

    def run(limit: Tensor, rate: Tensor) -> Tensor:
        start = (asarray(0), asarray(1.0, dtype="float64"))
        n, x = while_loop(lambda c: c[1] * c[0] < limit, lambda c: (c[0] + 1, c[1] * rate), start, max_steps=steps)
        return x + n

    rates = np.abs(rates) + 1.0
    check_vmap(run, axes, limits, rates)


def test_vmap_of_while_with_one_condition_for_all_examples() -> None:
    run = lambda x: while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * x), (asarray(0), x))[1]  # noqa: E731 - the table wants one name for each function
    check_vmap(run, 0, rng.normal(size=(6, 3)))


def test_vmap_of_vmap_of_scan() -> None:
    run = lambda h: total(scan(lambda c, x: (e.tanh(c + x), c), h, asarray(XS)))  # noqa: E731 - the table wants one name for each function
    check_vmap(vmap(run), 1, rng.normal(size=(2, 4, 3)))


def test_a_batched_graph_says_which_outputs_are_batched() -> None:
    last, _ = scan(lambda c, x: (c + x, x), asarray(H), asarray(XS))
    op = op_of(last)
    assert isinstance(op, Scan)
    graph, marks = batch_graph(op.body, [True, False], 7)
    assert isinstance(graph, Graph) and marks == [True, False]
    assert [node.type.shape for node in graph.outputs] == [(7, 3), (3,)]


# -- Regions -----------------------------------------------------------------------------------------------------------


def test_handles_made_inside_may_be_rebound() -> None:
    def body(c: Tensor, x: Tensor) -> Any:
        y = c * 1.0
        y += x
        y *= 2.0
        return y, None

    last, _ = scan(body, asarray(H), asarray(XS))
    expected = H
    for x in XS:
        expected = (expected + x) * 2
    np.testing.assert_allclose(last.numpy(), expected, rtol=1e-14)


def test_no_grad_around_a_scan_keeps_no_history() -> None:
    w = asarray(W, requires_grad=True)
    with using(grad=False):
        last, _ = scan(lambda c, x: (c @ w, c), asarray(H), asarray(XS))
    assert not last.requires_grad
    assert len(last.node.inputs[0].type) == 2  # nothing stored for a gradient


def test_the_primitives_keep_their_rules() -> None:
    last, _ = scan(lambda c, x: (c + x, None), asarray(H), asarray(XS))
    op = op_of(last)
    chosen = cond(asarray(True), lambda x: x, lambda x: x + 1.0, asarray(H))
    looped = while_loop(lambda x: x < 3, lambda x: x + 1, asarray(1))
    chosen, looped = op_of(chosen), op_of(looped)
    assert isinstance(op, Scan) and isinstance(chosen, Cond) and isinstance(looped, While)
    kind = asarray(H).type
    assert op.infer(kind, asarray(XS).type) == (kind,)
    with pytest.raises(ShapeError, match="sequence 0 has 4 slices, the scan has 5 steps"):
        op.infer(kind, asarray(XS[:4]).type)
    with pytest.raises(DTypeError, match="the predicate is float64, not bool"):
        chosen.infer(asarray(1.0, dtype="float64").type, kind)
    with pytest.raises(DTypeError, match="the inputs are not those of the nested graph, which takes i64"):
        looped.infer(kind)
    swapped = Scan(Graph(op.body.inputs, [op.body.inputs[1], op.body.outputs[0]]), 1, 1, 5, False)
    assert [t.shape for t in swapped.infer(kind, asarray(XS).type)] == [(3,), (5, 3)]
    wide = movement.concat([op.body.inputs[0], op.body.inputs[1]])
    with pytest.raises(ShapeError, match=r"carry 0 goes in as f64\[3\] and comes out as f64\[6\]"):
        Scan(Graph(op.body.inputs, [wide]), 1, 1, 5, False).infer(kind, asarray(XS).type)
    assert Output(0).infer((kind,)) == kind


# -- Errors ------------------------------------------------------------------------------------------------------------


def message(kind: type[Exception], call: Callable[[], Any]) -> list[str]:
    """The lines of the error, without the user's line, which it must have."""
    with pytest.raises(kind) as caught:
        call()
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  at test_control.py:"), lines
    return [lines[0], *lines[2:]]


def test_a_carry_that_changes_its_dtype() -> None:
    def body(c: Any, x: Tensor) -> Any:
        return {"h": c["h"] * x, "n": c["n"]}, None

    start = {"h": asarray([1, 2]), "n": asarray(0)}
    assert message(DTypeError, lambda: scan(body, start, asarray(XS[:, 0]))) == [
        "scan: a carry keeps its type, carry['h'] goes in as i64[2] and comes out as f64[2]",
        "  got: i64[2] -> f64[2]",
        "  try: return it as .astype(trine.int64), or start with .astype(trine.float64)",
    ]


def test_a_carry_that_changes_its_shape() -> None:
    def body(c: Any) -> Any:
        return c[0] + 1, movement.concat([c[1], c[1]])

    assert message(ShapeError, lambda: while_loop(lambda c: c[0] < 3, body, (asarray(0), asarray([1.0])))) == [
        "while_loop: a carry keeps its type, carry[1] goes in as f32[1] and comes out as f32[2]",
        "  got: f32[1] -> f32[2]",
        "  try: start with a carry of the shape that the body returns",
    ]


def test_a_carry_in_another_container() -> None:
    assert message(ArgumentError, lambda: scan(lambda c, x: ([c, c], None), asarray(1.0), asarray(XS))) == [
        "scan: the carry that the function returns is another container",
        "  got: result[0], result[1]",
        "  try: return result",
    ]


def test_a_body_that_returns_no_pair() -> None:
    assert message(DTypeError, lambda: scan(lambda c, x: 3, asarray(1.0), asarray(XS))) == [
        "scan: the function returns a pair: the next carry, and a result or None",
        "  got: 3",
        "  try: return carry, None",
    ]


def test_branches_that_differ() -> None:
    x = asarray([1.0, 2.0])
    assert message(DTypeError, lambda: cond(asarray(True), lambda: (x,), lambda: (x > 0,))) == [
        "cond: both branches return the same types, result[0] is f32[2] in one and bool[2] in the other",
        "  got: f32[2], bool[2]",
        "  try: .astype(trine.float32) in the second branch",
    ]
    assert message(ArgumentError, lambda: cond(asarray(True), lambda: {"a": x}, lambda: {"b": x})) == [
        "cond: what the second branch returns is another container",
        "  got: result['b']",
        "  try: return result['a']",
    ]


def test_predicates_that_are_not_one_bool() -> None:
    x = asarray([1.0, 2.0])
    assert message(DTypeError, lambda: cond(x.sum(), lambda: x, lambda: x)) == [
        "cond: the predicate is float32, not bool", "  got: f32[]", "  try: compare first, for example x > 0",
    ]  # fmt: skip
    assert message(ShapeError, lambda: while_loop(lambda x: x < 3, lambda x: x + 1, x)) == [
        "while_loop: the predicate is one bool of shape []",
        "  got: bool[2]",
        "  try: x.any() or x.all(); trine.where decides element by element",
    ]


def test_sequences_of_different_lengths() -> None:
    xs = {"a": asarray(XS), "b": asarray(XS[:3])}
    assert message(ShapeError, lambda: scan(lambda c, x: (c, None), asarray(1.0), xs)) == [
        "scan: xs['b'] has 3 slices, xs['a'] has 5", "  got: f64[3, 3]",
    ]  # fmt: skip
    assert message(ShapeError, lambda: scan(lambda c, x: (c, None), asarray(1.0), asarray(XS), length=4)) == [
        "scan: xs has 5 slices, length is 4", "  got: f64[5, 3]",
    ]  # fmt: skip


def test_a_scan_of_unknown_length() -> None:
    assert message(ArgumentError, lambda: scan(lambda c, x: (c, None), asarray(1.0))) == [
        "scan: without sequences, the number of steps is not known",
        "  got: xs=None",
        "  try: scan(f, init, None, length=10)",
    ]


@pytest.mark.parametrize("steps", [-1, 2.5, True])
def test_a_bound_that_is_no_number_of_steps(steps: Any) -> None:
    found = message(ArgumentError, lambda: while_loop(lambda x: x < 3, lambda x: x + 1, asarray(1), max_steps=steps))
    assert found == ["while_loop: max_steps is a number of steps, 0 or more", f"  got: {steps!r}"]


def test_arguments_without_a_tensor() -> None:
    assert message(DTypeError, lambda: while_loop(lambda i: i < 3, lambda i: i + 1, 0)) == [
        "while_loop: none of the arguments is a tensor", "  got: 0", "  try: trine.asarray(...) makes a tensor",
    ]  # fmt: skip


def test_a_tensor_from_outside_that_is_rebound_inside() -> None:
    seen = asarray(0.0)

    def body(c: Tensor, x: Tensor) -> Any:
        seen.assign(seen + 1.0)
        return c, None

    assert message(CaptureError, lambda: scan(body, asarray(1.0), asarray(XS))) == [
        "scan: a tensor from outside is re-bound inside the function, which is recorded once and runs any number of "
        "times",
        "  got: f32[]",
        "  try: carry it: pass it in, return its new value, and re-bind it after the call",
    ]
    assert seen.item() == 0.0


def test_a_value_asked_for_inside() -> None:
    with pytest.raises(CaptureError, match="a value is asked for that is not known while the graph is being built"):
        scan(lambda c, x: (c if c > 0 else x, None), asarray(1.0), asarray(XS[:, 0]))
