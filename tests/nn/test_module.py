"""Modules: what is found in attributes, how state goes in and out, and what a call does."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine import dtypes, nn
from trine.context import CURRENT, using
from trine.errors import ArgumentError, DTypeError, ShapeError, StateError
from trine.tensor.creation import asarray, ones, zeros
from trine.tensor.recording import record
from trine.tensor.tensor import Tensor
from trine.tensor.trace import spec


class Net(nn.Module):
    def __init__(self) -> None:
        self.hidden = nn.Dense(4, activation="relu")
        self.out = nn.Dense(1)

    def forward(self, x: Any) -> Any:
        return self.out(self.hidden(x))


class Block(nn.Module):
    def __init__(self, units: int) -> None:
        self.ffn = nn.Dense(units)

    def forward(self, h: Any) -> Any:
        h = self.ffn(h)
        return h


class Stack(nn.Module):
    def __init__(self) -> None:
        self.encoder = [Block(4) for _ in range(4)]

    def forward(self, h: Any) -> Any:
        for block in self.encoder:
            h = block(h)
        return h


class Mode(nn.Module):
    """Says in which mode it runs."""

    def forward(self, x: Any, training: bool | None = None) -> Any:
        return x + float(self.is_training(training))


def leaf(*shape: int) -> Tensor:
    return nn.parameter(shape, "ones")


def names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


# -- What is found -----------------------------------------------------------------------------------------------------


def test_parameters_are_found_in_attributes_without_a_call_of_the_base_constructor() -> None:
    net = Net()
    net(ones((2, 3)))
    assert names(net) == ["hidden.kernel", "hidden.bias", "out.kernel", "out.bias"]
    assert [p.shape for p in net.parameters()] == [(3, 4), (4,), (4, 1), (1,)]


def test_lists_tuples_and_dicts_are_followed_in_order() -> None:
    net = nn.Module()
    net.z = leaf(1)
    net.parts = [leaf(2), {"b": leaf(3), "a": (leaf(4), [leaf(5)])}]
    net.a = Block(2).build_for((1, 3))
    assert names(net) == ["z", "parts.0", "parts.1.b", "parts.1.a.0", "parts.1.a.1.0", "a.ffn.kernel", "a.ffn.bias"]


def test_a_shared_parameter_and_a_shared_module_keep_their_first_name() -> None:
    net = nn.Module()
    net.first = nn.Dense(3).build_for((1, 3))
    net.again = net.first
    net.tied = net.first.kernel
    assert names(net) == ["first.kernel", "first.bias"]
    assert [name for name, _ in net.named_modules()] == ["", "first"]


def test_cycles_of_modules_and_of_containers_end() -> None:
    parent, child = nn.Module(), nn.Module()
    parent.child, child.parent, child.w = child, parent, leaf(1)
    child.loop = [child.w]
    child.loop.append(child.loop)
    assert names(parent) == ["child.w"]
    assert names(child) == ["w"]


Trees = st.recursive(
    st.sampled_from(["tensor", "state", "number"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(Trees)
def test_names_are_the_paths_of_a_recursive_walk(tree: Any) -> None:
    def build(part: Any) -> Any:
        if isinstance(part, list):
            return [build(p) for p in part]
        if isinstance(part, dict):
            module = nn.Module()
            for key, p in part.items():
                setattr(module, key, build(p))
            return module
        return leaf(1) if part == "tensor" else zeros(1) if part == "state" else 3

    def paths(part: Any, prefix: str, kinds: set[str]) -> list[str]:
        if isinstance(part, list | dict):
            items = part.items() if isinstance(part, dict) else enumerate(part)
            return [path for key, p in items for path in paths(p, f"{prefix}.{key}", kinds)]
        return [prefix] if part in kinds else []

    net = nn.Module()
    net.root = build(tree)
    assert names(net) == paths(tree, "root", {"tensor"})
    assert [name for name, _ in net.named_state()] == paths(tree, "root", {"tensor", "state"})


def test_state_is_saved_and_not_trained_and_computed_values_are_neither() -> None:
    net = nn.Module()
    net.w = leaf(2)
    net.mean = zeros(2)
    net.seen = net.w * 2
    assert names(net) == ["w"]
    assert [name for name, _ in net.named_state()] == ["w", "mean"]


def test_two_tensors_of_one_name_are_refused() -> None:
    net = nn.Module()
    net.parts = {"1": leaf(1), 1: leaf(1)}
    with pytest.raises(ArgumentError, match=r"^Module: two tensors have the name 'parts.1'\n  at test_module"):
        net.state_dict()


def test_every_attribute_write_raises_the_version_and_a_call_does_not() -> None:
    net = Net()
    start = net.version
    net.depth = 3
    del net.depth
    assert net.version == start + 2
    net(ones((2, 3)))
    before = [module.version for module in net.modules()]
    net(ones((2, 3)))
    assert [module.version for module in net.modules()] == before


# -- Built or not ------------------------------------------------------------------------------------------------------


def test_parameters_before_the_first_call_are_refused() -> None:
    net = Net()
    with pytest.raises(StateError) as caught:
        net.parameters()
    lines = str(caught.value).split("\n")
    assert lines[0] == (
        "Net: the sizes of its parameters come from the first call: call the model once on data "
        "(or model.build_for(spec)) before its parameters are read"
    )
    assert lines[1].endswith("net.parameters()")
    assert lines[2:] == [
        "  got: not built: hidden, out",
        '  try: model.build_for(("batch", 784)) with the sizes of an input',
    ]


@pytest.mark.parametrize("given", [("batch", 3), (None, 3), spec(("n", 3)), np.zeros((2, 3), np.float32)])
def test_build_for_builds_without_data(given: Any) -> None:
    net = Net()
    assert net.build_for(given) is net
    assert net.hidden.kernel.shape == (3, 4)
    assert all(module.built for module in net.modules())


def test_a_part_that_no_call_reaches_does_not_stand_in_the_way_after_the_first_call() -> None:
    net = Net()
    net.spare = nn.Dense(2)
    net(ones((2, 3)))
    assert names(net) == ["hidden.kernel", "hidden.bias", "out.kernel", "out.bias"]


def test_build_takes_those_arguments_that_it_names() -> None:
    class Scaled(nn.Module):
        def build(self, x: Any, *, scale: Any = None) -> None:
            self.seen = [x.shape, scale]

        def forward(self, x: Any, mask: Any = None, *, scale: Any = None, more: Any = None) -> Any:
            return x

    layer = Scaled()
    layer(ones((2, 3)), None, scale=2, more=3)
    assert layer.seen == [(2, 3), 2]


def test_a_module_built_inside_a_captured_step_has_its_parameters_afterwards() -> None:
    layer, x = nn.Dense(2), ones((1, 3))
    recording = record(layer, (x,), {}, [x.node])
    recording.journal.rollback()
    assert layer.kernel.numpy().any()
    assert [(module, version) for module, version in recording.capture.called_modules.values()] == [
        (layer, layer.version)
    ]


def test_a_class_without_forward_says_so() -> None:
    class Old(nn.Module):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(StateError, match=r"^Old: the class defines no forward\n.*\n  try: rename its method call"):
        Old()(ones(1))


# -- State in and out --------------------------------------------------------------------------------------------------


def test_state_goes_from_one_module_to_another() -> None:
    x = asarray(np.random.default_rng(0).normal(size=(2, 3)), dtype="float32")
    one, two = Net().build_for((1, 3)), Net().build_for((1, 3))
    assert (one(x).numpy() != two(x).numpy()).all()
    assert not two.load_state_dict(one.state_dict())
    assert (one(x).numpy() == two(x).numpy()).all()
    assert two.hidden.kernel.is_leaf and two.hidden.kernel.requires_grad


def test_saved_state_that_does_not_fit_changes_nothing() -> None:
    net = Net().build_for((1, 3))
    before = net.state_dict()
    state = {"hidden.kernel": np.zeros((3, 4)), "hidden.bias": np.zeros(5), "out.bias": np.zeros(1), "x": 0, "y": 1}
    with pytest.raises(StateError) as caught:
        net.load_state_dict(state)
    lines = str(caught.value).split("\n")
    assert lines[0] == (
        "Net: the saved state does not fit, nothing was loaded: 1 missing, 2 unexpected, 1 of another shape"
    )
    assert lines[2:] == [
        "  got: missing: out.kernel; unexpected: x, y; of another shape: hidden.bias (f64[5] for f32[4])",
        "  try: load_state_dict(state, strict=False) loads what fits",
    ]
    assert all((before[name] == value).all() for name, value in net.state_dict().items())


def test_only_the_first_names_of_a_long_list_are_shown() -> None:
    with pytest.raises(StateError, match=r"got: missing: hidden.kernel, hidden.bias, out.kernel and 1 more$"):
        Net().build_for((1, 3)).load_state_dict({})


def test_loading_what_fits_reports_the_rest() -> None:
    net = Net().build_for((1, 3))
    found = net.load_state_dict({"hidden.bias": np.full(4, 7.0), "out.bias": np.zeros(2), "x": 0}, strict=False)
    assert found.missing == ["hidden.kernel", "out.kernel"]
    assert found.unexpected == ["x"]
    assert found.wrong == {"out.bias": "f64[2] for f32[1]"}
    assert net.hidden.bias.tolist() == [7.0] * 4
    assert net.hidden.bias.dtype is dtypes.float32


def test_loading_inside_a_transaction_can_be_undone() -> None:
    net = Net().build_for((1, 3))
    x = ones(1)
    zero = {name: value * 0 for name, value in net.state_dict().items()}
    recording = record(lambda _: net.load_state_dict(zero), (x,), {}, [])
    assert not net.hidden.kernel.numpy().any()
    recording.journal.rollback()
    assert net.hidden.kernel.numpy().any()


def test_copies_and_pickles_share_nothing() -> None:
    net = Net().build_for((1, 3))
    x = ones((1, 3))
    kernel = net.out.kernel.numpy()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (twin(x).numpy() == net(x).numpy()).all()
        with using(grad=False):
            twin.out.kernel.assign(twin.out.kernel * 0)
        assert twin(x).item() == 0 and (net.out.kernel.numpy() == kernel).all()
        assert names(twin) == names(net)


def test_a_copy_of_a_model_in_training_is_trained_on_its_own() -> None:
    net = Net()
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    net.compile("sgd", "mse").fit(x, x[:, :1], verbose=0)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        before = net.state_dict()
        assert (twin.predict(x) == net.predict(x)).all()
        twin.compile("sgd", "mse").fit(x, x[:, :1], verbose=0)
        assert (twin.predict(x) != net.predict(x)).any()
        assert all((before[name] == value).all() for name, value in net.state_dict().items())


def test_every_module_can_be_trained_and_keeps_its_version_while_it_is() -> None:
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    made = nn.Input((3,))
    for model in (Net(), nn.Sequential([nn.Dense(4), nn.Dense(1)]), nn.Model(made, nn.Dense(1)(made))):
        model.compile("adam", "mse")
        first = model.fit(x, x[:, :1], epochs=1, verbose=0).history["loss"][0]
        version = [module.version for module in model.modules()]
        assert model.fit(x, x[:, :1], epochs=30, verbose=0).history["loss"][-1] < first
        assert [module.version for module in model.modules()] == version


# -- Training mode and freezing ----------------------------------------------------------------------------------------


def test_the_argument_beats_the_context_beats_the_attribute() -> None:
    layer, x = Mode(), zeros(())
    assert layer(x).item() == 0
    layer.train()
    assert layer(x).item() == 1
    with nn.training_mode(False):
        assert layer(x).item() == 0
        assert layer(x, training=True).item() == 1
    assert layer.eval() is layer
    assert layer(x).item() == 0


def test_the_argument_reaches_the_modules_inside_and_a_forward_without_it() -> None:
    net = nn.Sequential([Mode(), Mode()])
    assert net(zeros(()), training=True).item() == 2
    assert net(zeros(())).item() == 0
    assert CURRENT.get().training is None


def test_a_forward_whose_own_default_is_false_still_learns_the_mode() -> None:
    class Plain(nn.Module):
        def forward(self, x: Any, training: bool = False) -> Any:
            return x + float(training)

    layer = Plain()
    with nn.training_mode(True):
        assert layer(zeros(())).item() == 1
        assert layer(zeros(()), False).item() == 0


def test_train_sets_the_mode_of_all_inside() -> None:
    net = nn.Sequential([Mode(), nn.Sequential([Mode()])]).train()
    assert all(module.training is True for module in net.modules())


def test_frozen_parameters_are_state_until_they_are_freed() -> None:
    net = Net().build_for((1, 3))
    net.hidden.trainable = False
    assert names(net) == ["out.kernel", "out.bias"]
    assert len(net.state_dict()) == 4
    net(ones((2, 3))).sum().backward()
    assert net.hidden.kernel.grad is None and net.out.kernel.grad is not None
    net.trainable = True
    assert names(net) == ["hidden.kernel", "hidden.bias", "out.kernel", "out.bias"]


def test_a_module_frozen_before_its_first_call_stays_frozen() -> None:
    layer = nn.Dense(2)
    layer.trainable = False
    layer(ones((1, 3)))
    assert layer.parameters() == []
    layer.trainable = True
    assert len(layer.parameters()) == 2


def test_freed_state_is_not_trained() -> None:
    layer = nn.BatchNormalization().build_for((2, 3))
    layer.trainable = False
    layer.trainable = True
    assert names(layer) == ["gamma", "beta"]


# -- The call ----------------------------------------------------------------------------------------------------------


def test_float64_arrays_become_float32_and_integers_stay() -> None:
    class Look(nn.Module):
        def forward(self, x: Any, parts: Any, flag: Any = None) -> Any:
            return [x.dtype, [p.dtype for p in parts], flag]

    found = Look()(np.zeros(2), (np.zeros(2, np.int32), asarray(np.zeros(2))), flag=2.5)
    assert found == [dtypes.float32, [dtypes.int32, dtypes.float32], 2.5]


def test_the_policy_of_the_block_belongs_to_the_modules_made_in_it() -> None:
    with nn.dtype_policy("float64"):
        net = Net()
    assert net(np.ones((2, 3), np.float32)).dtype is dtypes.float64
    assert net.hidden.kernel.dtype is dtypes.float64
    assert nn.Dense(1)(np.ones((2, 3))).dtype is dtypes.float32


def test_to_policy_moves_parameters_that_are_there() -> None:
    net = Net().build_for((1, 3)).to_policy("float32", "bfloat16")
    assert net(ones((2, 3))).dtype is dtypes.bfloat16
    net.to_policy("float64")
    assert net(ones((2, 3))).dtype is dtypes.float64
    assert all(p.dtype is dtypes.float64 and p.is_leaf and p.requires_grad for p in net.parameters())


def test_a_policy_of_integers_is_refused() -> None:
    with pytest.raises(DTypeError, match=r"^dtype_policy: layers compute in a float dtype, not in int32\n"):
        Net().to_policy("float32", "int32")


def test_an_error_names_the_path_from_the_outermost_module_and_the_users_line() -> None:
    net = Stack()
    net(ones((2, 6)))
    net.encoder[3].ffn = nn.Dense(128).build_for((1, 64))
    with pytest.raises(ShapeError) as caught:
        net(ones((2, 6)))
    lines = str(caught.value).split("\n")
    assert lines[0] == (
        "encoder.3.ffn (Dense 128): inner sizes differ: the last axis of x is 4, the layer was built for 64"
    )
    assert lines[1].startswith("  at test_module.py:") and lines[1].endswith(": h = self.ffn(h)")
    assert lines[2] == "  got: f32[2, 4] @ f32[64, 128]"


def test_a_lone_layer_is_named_by_its_class_and_a_module_that_no_attribute_holds_too() -> None:
    layer = nn.Dense(128).build_for((1, 64))
    with pytest.raises(ShapeError, match=r"^Dense 128: inner sizes differ"):
        layer(ones((2, 3)))

    class Loose(nn.Module):
        def forward(self, x: Any) -> Any:
            return layer(x)

    with pytest.raises(ShapeError, match=r"^Dense \(Dense 128\): inner sizes differ"):
        Loose()(ones((2, 3)))


def test_a_module_that_calls_itself_keeps_its_path() -> None:
    class Tree(nn.Module):
        def __init__(self) -> None:
            self.leaf = nn.Dense(2).build_for((1, 2))

        def forward(self, x: Any) -> Any:
            return self(x[0]) if isinstance(x, list) else self.leaf(x)

    with pytest.raises(ShapeError, match=r"^leaf \(Dense 2\): inner"):
        Tree()([[ones((1, 3))]])


def test_the_context_is_restored_after_an_error() -> None:
    class Fails(nn.Module):
        def forward(self, x: Any) -> Any:
            raise KeyError("x")

    before = CURRENT.get()
    with pytest.raises(KeyError):
        nn.Sequential([Fails()])(ones(1))
    assert CURRENT.get() is before
    with pytest.raises(ShapeError, match=r"^Dense 2: inner"):
        nn.Dense(2).build_for((1, 2))(ones((1, 3)))


# -- The summary -------------------------------------------------------------------------------------------------------


def test_the_summary_counts_every_number_once(capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Sequential([nn.Dense(4), nn.BatchNormalization()])
    net.tied = net[0]
    net(ones((2, 3)))
    assert net.summary() is None
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        ["layers.0", "Dense 4", "[2, 4]", "16", "yes"],
        ["layers.1", "BatchNormalization", "[2, 4]", "16", "partly"],
    ]
    assert text.splitlines()[-1] == "32 parameters: 24 trainable, 8 not"


def test_the_summary_of_a_model_that_was_never_called(capsys: pytest.CaptureFixture[str]) -> None:
    Net().summary()
    lines = capsys.readouterr().out.splitlines()
    assert sum("not built" in line for line in lines) == 2
    assert lines[-2:] == [
        "0 parameters: 0 trainable, 0 not",
        "2 of the modules wait for their first call to make theirs",
    ]
