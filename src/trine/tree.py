"""Nested containers: tuples, lists, dicts and named tuples of leaves, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class Structure(NamedTuple):
    """The shape of a container: its type, its keys if it has any, and the structures of its children.

    A leaf has kind None.
    """

    kind: type | None
    keys: tuple[Any, ...]
    children: tuple[Structure, ...]


LEAF = Structure(None, (), ())


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a container, left to right, and its structure; dicts in the order of insertion."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    kind = type(tree)
    if kind is tuple or kind is list or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        return Structure(kind, (), tuple(_flatten(part, leaves) for part in tree))
    if isinstance(tree, Mapping):
        return Structure(kind, tuple(tree), tuple(_flatten(part, leaves) for part in tree.values()))
    if tree is None:
        return Structure(type(None), (), ())
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The container of a structure around leaves."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    kind = structure.kind
    if kind is None:
        return next(leaves)
    if kind is type(None):
        return None
    parts = [_unflatten(child, leaves) for child in structure.children]
    make: Any = kind
    if kind is tuple or kind is list:
        return make(parts)
    if issubclass(kind, tuple):
        return make(*parts)
    return make(zip(structure.keys, parts, strict=True))


def map(function: Callable[[Any], Any], tree: Any) -> Any:
    """The container with `function` applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])
