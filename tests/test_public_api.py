"""The public API is what the snapshot says: a change of it is seen in review."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import trine

PACKAGES = ("nn", "optim", "metrics", "data", "train")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def public_modules() -> list[ModuleType]:
    """The package and those of its public sub-packages that exist."""
    names = [f"trine.{name}" for name in PACKAGES if importlib.util.find_spec(f"trine.{name}")]
    return [trine, *map(importlib.import_module, names)]


def public_names(module: ModuleType) -> list[str]:
    """What the module lists in `__all__`; without one, the names without an underscore that Trine defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(name for name, thing in vars(module).items() if name[0] != "_" and is_ours(thing))


def is_ours(thing: Any) -> bool:
    return not isinstance(thing, ModuleType) and str(getattr(thing, "__module__", "")).partition(".")[0] == "trine"


def signature(function: Callable[..., Any], bound: bool = False) -> str:
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):  # a callable of NumPy or C without one
        return "(...)"
    if bound:
        found = found.replace(parameters=list(found.parameters.values())[1:])
    return ADDRESS.sub("", str(found))


def constructor(cls: type) -> str:
    """The parameters of the constructor that Trine wrote; empty for enumerations, protocols, and Python's own."""
    if issubclass(cls, enum.Enum) or getattr(cls, "_is_protocol", False):
        return ""
    for base in cls.__mro__:
        for name in ("__init__", "__new__"):
            if name in vars(base) and is_ours(base):
                return signature(getattr(base, name), bound=True).removesuffix(" -> None")
    return ""


def members(cls: type) -> Iterator[str]:
    """One line for each public member that the class itself defines."""
    for name, member in sorted(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, enum.Enum):
            yield f"{name} = {member.value!r}"
        elif isinstance(member, property):
            yield f"{name} (property)"
        elif isinstance(member, staticmethod):
            yield f"{name}{signature(member.__func__)} (static)"
        elif isinstance(member, classmethod):
            yield f"{name}{signature(member.__func__, bound=True)} (class)"
        elif callable(member):
            yield f"{name}{signature(member, bound=True)}"
        else:
            yield name


def describe(name: str, thing: Any) -> Iterator[str]:
    """The lines of the snapshot for one name."""
    if isinstance(thing, ModuleType):
        yield f"module {name}"
    elif inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        yield f"class {name}{constructor(thing)}" + (f" < {bases}" if bases else "")
        yield from (f"    .{line}" for line in members(thing))
    elif callable(thing):
        yield f"{name}{signature(thing)}"
    else:
        yield f"{name}: {type(thing).__name__}"


def snapshot() -> str:
    lines = []
    for module in public_modules():
        lines += ["", f"[{module.__name__}]"]
        for name in public_names(module):
            lines += describe(name, getattr(module, name))
    return "\n".join(lines[1:]) + "\n"


def test_the_public_api_is_the_one_of_the_snapshot(golden: Callable[[str | Path, str], None]) -> None:
    golden("public_api.txt", snapshot())


def test_public_names_are_listed_once() -> None:
    for module in public_modules():
        names = public_names(module)
        assert len(set(names)) == len(names), module.__name__


def test_a_class_is_described_by_its_own_members() -> None:
    class Base:
        def shared(self) -> None: ...

    class Layer(Base):
        units = 3

        def forward(self, x: int, *, training: bool = False) -> int:
            return x

        @property
        def size(self) -> int:
            return 1

        @classmethod
        def of(cls, n: int) -> Layer:
            return cls()

    assert list(describe("Layer", Layer)) == [
        "class Layer < Base",
        "    .forward(x: 'int', *, training: 'bool' = False) -> 'int'",
        "    .of(n: 'int') -> 'Layer' (class)",
        "    .size (property)",
        "    .units",
    ]


def test_defaults_leave_no_address_in_the_snapshot() -> None:
    marker = object()

    def f(x: object = marker) -> None: ...

    assert signature(f) == "(x: 'object' = <object object>) -> 'None'"
