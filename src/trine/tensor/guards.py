"""Guards: what must still be the same for the replay of a recording to mean what its Python means.

They hold what they compare with, so that an object that died cannot be taken for a new one at its address.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from inspect import getattr_static
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Final, NamedTuple

from trine.errors import ROOT
from trine.tensor.recording import Recording, StepCapture

ELEMENTS_WATCHED: Final = 100  # a longer list counts by identity and length only: data sets live in lists
VALUES_WATCHED: Final = 10_000  # of a walk over what a function can reach
_UNSET: Final = object()
_LIBRARIES: Final = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})


class Guard(NamedTuple):
    """Something that must hold.

    Attributes:
        broken: what happened if it does not, as text.
        holds: whether it does now.
        state: whether it is about tensors, which a step may change without becoming another step.
    """

    broken: str
    holds: Callable[[], bool]
    state: bool = False


def guards(function: Callable[..., Any], recording: Recording, static: Sequence[Any] = ()) -> list[Guard]:
    """The guards of a recording: modules, tensors, and the variables and objects that its functions may read."""
    capture = recording.capture
    found = list(_tensors(capture))
    scan = _Scan(found)
    scan.all([function, *static, *capture.functions, *(module for module, _ in capture.called_modules.values())])
    return found


class _Scan:
    """A walk over the values that a function can reach through variables, attributes and containers.

    Attributes:
        found: the guards so far.
        names: every name that the functions mention: which attributes of objects matter.
    """

    def __init__(self, found: list[Guard]) -> None:
        self.found = found
        self.names: set[str] = set()
        self._seen: dict[int, Any] = {}  # holds what it names, so that no identity is given out twice
        self._containers: dict[int, Any] = {}  # likewise, those that have their guard
        self._objects: list[Any] = []

    def all(self, values: list[Any]) -> None:
        """Walk from these values, then guard the attributes that are mentioned."""
        pending = list(values)
        while pending and len(self._seen) < VALUES_WATCHED:
            value = pending.pop()
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                pending.extend(self._reached(value))
        for value in self._objects:
            for name in sorted(self.names):
                now = getattr_static(value, name, _UNSET)
                if now is not _UNSET:
                    text = f"the attribute {name} of a {type(value).__name__} was changed"
                    self.found.append(Guard(text, partial(_attribute_is, value, name, now)))

    def _reached(self, value: Any) -> list[Any]:
        """Guard one value; what it leads to."""
        if isinstance(value, MethodType):
            return [value.__func__, value.__self__]
        if isinstance(value, partial):
            return [value.func, *value.args, *value.keywords.values()]
        if isinstance(value, list | tuple | dict):
            return _elements(value) if len(value) <= ELEMENTS_WATCHED else []
        if hasattr(type(value), "named_modules"):  # a Module; this layer does not know the class
            return self._module(value)
        plain = _plain(value)
        if plain is not None:
            self.names.update(_global_names(plain.__code__))
            return _variables(plain, self)
        if _is_users(value if isinstance(value, type) else type(value)):
            self._objects.append(value)
            inside = [part for name, part in getattr(value, "__dict__", {}).items() if not name.startswith("__")]
            for part in inside:
                self.container("an attribute", part)
            return [*inside, *_methods(type(value))]
        return []

    def _module(self, root: Any) -> list[Any]:
        reached: list[Any] = []
        for module in root.modules():
            if module is not root and id(module) in self._seen:
                continue
            self._seen[id(module)] = module
            kind = type(module)
            self.found.append(Guard(f"{kind.__name__} was changed", partial(_version_is, module, module.version)))
            for label, value in vars(module).items():
                self.container(f"{kind.__name__}.{label}", value)
            reached.extend(value for label, value in vars(module).items() if not label.startswith("_"))
            reached.extend(_methods(kind))
        return reached

    def container(self, label: str, value: Any) -> None:
        """Guard lists and dicts by identity and length; short ones by what they hold, too, and containers in them."""
        pending = [] if label.startswith("__") else [value]
        while pending and len(self._containers) < VALUES_WATCHED:
            part = pending.pop()
            if not isinstance(part, list | tuple | dict) or id(part) in self._containers:
                continue
            self._containers[id(part)] = part
            if len(part) <= ELEMENTS_WATCHED:
                text, same = "length or an element", partial(_elements_are, part, _elements(part))
                pending.extend(part.values() if isinstance(part, dict) else part)
            else:
                text, same = "length", partial(_length_is, part, len(part))
            if not isinstance(part, tuple):
                self.found.append(Guard(f"the {text} of {label} was changed", same))


def _methods(kind: type) -> list[Any]:
    """The functions of a class that the user wrote."""
    return [part for base in kind.__mro__ if _is_users(base) for part in vars(base).values() if _plain(part)]


@cache
def _is_users(kind: type) -> bool:
    """Whether a class is of the user's program: neither Trine's, nor Python's, nor an installed library's."""
    if kind.__module__ == "__main__":
        return True
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is not None and not file.startswith((ROOT, *_LIBRARIES))


def _attribute_is(value: Any, name: str, wanted: Any) -> bool:
    return getattr_static(value, name, _UNSET) is wanted


def first_broken(found: list[Guard]) -> Guard | None:
    """The first guard that does not hold; None if all do."""
    for guard in found:
        if not guard.holds():
            return guard
    return None


def _version_is(module: Any, version: int) -> bool:
    return bool(module.version == version)


# -- Tensors -----------------------------------------------------------------------------------------------------------


def _tensors(capture: StepCapture) -> Iterator[Guard]:
    for source in capture.sources.values():
        handle = source.handle
        if handle is None:
            continue
        yield Guard("requires_grad of a tensor was changed", partial(_requires_is, handle, handle._requires), True)
        yield Guard("the type of a tensor was changed", partial(_type_is, handle, handle.type), True)
        if source.kind == "grad":
            yield Guard("a gradient was taken away", partial(_has_gradient, handle, True), True)
    for handle in capture.asked.values():
        yield Guard("requires_grad of a tensor was changed", partial(_requires_is, handle, handle._requires), True)
    for handle in capture.absent.values():
        yield Guard("a gradient is there that was not", partial(_has_gradient, handle, False), True)
    for one, other in capture.aliases:
        yield Guard("two tensors no longer hold one value", partial(_same_node, one, other), True)


def _requires_is(handle: Any, wanted: bool) -> bool:
    return bool(handle._requires == wanted)


def _type_is(handle: Any, kind: Any) -> bool:
    return bool(handle.node.type == kind)


def _has_gradient(handle: Any, wanted: bool) -> bool:
    return (handle._grad is not None) == wanted


def _same_node(one: Any, other: Any) -> bool:
    return one.node is other.node


# -- Variables ---------------------------------------------------------------------------------------------------------


def _plain(function: Any) -> FunctionType | None:
    """The user's function behind a method, a partial, or what a transform made of it; None if there is none."""
    while not isinstance(function, FunctionType) or function.__code__.co_filename.startswith(ROOT):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif "__wrapped__" in getattr(function, "__dict__", ()):
            function = function.__wrapped__
        else:
            return None
    return function


def _variables(function: FunctionType, scan: _Scan) -> list[Any]:
    """Add guards of the cells, globals and defaults that a function reads; return their values."""
    name = function.__qualname__
    values: list[Any] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for value in values:
        scan.container(f"a default of {name}", value)
    keywords = dict(function.__kwdefaults__ or {})
    same = partial(_defaults_are, function, function.__defaults__, keywords)
    scan.found.append(Guard(f"the defaults of {name} were changed", same))
    scan.found.append(Guard(f"the code of {name} was changed", partial(_code_is, function, function.__code__)))
    for label, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        value = _content(cell)
        values.append(value)
        scan.found.append(Guard(f"the variable {label} of {name} was re-bound", partial(_cell_is, cell, value)))
        scan.container(label, value)
    names = function.__globals__
    for label in _global_names(function.__code__):
        if label in names:
            value = names[label]
            values.append(value)
            scan.found.append(Guard(f"the global {label} was re-bound", partial(_global_is, names, label, value)))
            scan.container(label, value)
    return values


def _global_names(code: CodeType) -> list[str]:
    """The names that a code object, and those nested in it, mention: globals, and attributes of the same name."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.extend(_global_names(constant))
    return list(dict.fromkeys(names))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _UNSET


def _cell_is(cell: CellType, value: Any) -> bool:
    return _content(cell) is value


def _global_is(names: dict[str, Any], label: str, value: Any) -> bool:
    return names.get(label, _UNSET) is value


def _defaults_are(function: FunctionType, defaults: Any, keywords: dict[str, Any]) -> bool:
    now = function.__kwdefaults__ or {}
    return function.__defaults__ is defaults and now.keys() == keywords.keys() and all(
        now[k] is v for k, v in keywords.items())  # fmt: skip


def _code_is(function: FunctionType, code: CodeType) -> bool:
    return function.__code__ is code


def _elements(value: Any) -> list[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else list(value)


def _length_is(value: Any, length: int) -> bool:
    return len(value) == length


def _elements_are(value: Any, elements: list[Any]) -> bool:
    now = _elements(value)
    return len(now) == len(elements) and all(map(_is, now, elements))


def _is(one: Any, other: Any) -> bool:
    return one is other
