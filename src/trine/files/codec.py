"""Graphs as JSON values and back: operations by name, version and attributes.

A graph is a list of nodes that refer to tables of operations, constants and lines, so that what occurs often is written
once. Types are written for inputs only; those of other nodes follow from the operations, which keeps files readable
when shape rules become sharper. The whole format is described by `Encoder` and `Decoder`, which mirror each other.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

import trine.ops
from trine import dtypes, shapes
from trine.dtypes import DType
from trine.engine import ENGINE
from trine.errors import ArgumentError, FileFormatError, SavedLine, Site, TrineError, Where
from trine.ir.graph import ABSTRACT, Graph, Node, Type
from trine.ir.verify import verify
from trine.ops.base import CONSTANT, LITERAL, Op, Placeholder, user_site
from trine.shapes import Dim, Size

INLINE: Final = 64  # bytes up to which a constant is part of the JSON text
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

# Attributes, as JSON values, of an operation at a version in those of the next one, by name and version. A change of
# attributes that files of a released version have written raises `version` in the operation and adds a line here.
UPGRADES: Final[dict[tuple[str, int], Upgrade]] = {}


def encode(graph: Graph) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """A graph as a JSON value, and its large constants as arrays by name."""
    encoder = Encoder()
    return {"graph": encoder.graph(graph), "tables": encoder.tables()}, encoder.arrays


def decode(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> Graph:
    """The graph that `encode` wrote.

    Raises:
        FileFormatError: an operation or a version that this release does not know, or values that are no graph.
    """
    return Decoder(data["tables"], arrays).graph(data["graph"])


@cache
def operations() -> dict[str, type[Op]]:
    """All primitives by name: the concrete subclasses of `Op` in `trine.ops`."""
    for module in pkgutil.iter_modules(trine.ops.__path__, "trine.ops."):
        importlib.import_module(module.name)
    own = [kind for kind in _subclasses(Op) if kind.__module__.startswith("trine.ops.")]
    bases = {base for kind in own for base in kind.__mro__[1:]}
    return {kind.name: kind for kind in own if kind not in bases}


def _subclasses(kind: type[Op]) -> Iterator[type[Op]]:
    for found in kind.__subclasses__():
        # a dataclass with slots is a second class of the same name; the first may still be in memory
        if getattr(sys.modules.get(found.__module__), found.__name__, None) is found:
            yield found
            yield from _subclasses(found)


# -- Writing -----------------------------------------------------------------------------------------------------------


class Encoder:
    """Writes graphs that share their tables.

    Attributes:
        arrays: constants that are too large for the JSON text, by name: "constants.0", ...
    """

    def __init__(self) -> None:
        """Start with empty tables."""
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self._operations: list[Any] = []
        self._constants: list[Any] = []
        self._sites: list[Any] = []
        self._caller = user_site()
        self._numbers: dict[Any, int] = {}

    def tables(self) -> dict[str, Any]:
        """What the graphs refer to by number: operations, constants, lines."""
        return {"operations": self._operations, "constants": self._constants, "sites": self._sites}

    def graph(self, graph: Graph) -> dict[str, Any]:
        """A graph: its inputs, its nodes in topological order after them, and the numbers of its outputs.

        A node is `[operation, [inputs], line]`; a constant is `[-1, number]`. The line of a node that a layer of Trine
        recorded is left empty: it would be the line that calls this.

        Raises:
            ArgumentError: an operation that is no primitive of Trine.
        """
        place = {node.serial: i for i, node in enumerate(graph.inputs)}
        rows: list[list[Any]] = []
        for node in graph.nodes:
            if node.serial in place:
                continue
            place[node.serial] = len(place)
            if node.buffer is not None:
                rows.append([-1, self._constant(node)])
            else:
                rows.append([self._operation(node), [place[i.serial] for i in node.inputs], self._site(node.site)])
        inputs = [[getattr(node.op, "label", ""), *_type(node.type)] for node in graph.inputs]
        return {"inputs": inputs, "nodes": rows, "outputs": [place[node.serial] for node in graph.outputs]}

    def _operation(self, node: Node) -> int:
        op = node.op
        known = self._numbers.get(op)
        if known is None:
            if operations().get(op.name) is not type(op):
                rule = f"{op.name!r} is no primitive of Trine, so a file cannot hold it"
                raise ArgumentError("save", rule, got=repr(node), fix="compose it of functions of trine").locate(
                    Site(*node.site) if node.site else None)  # fmt: skip
            fields: tuple[str, ...] = op.__match_args__
            attributes = {name: self._attribute(getattr(op, name)) for name in fields}
            known = self._numbers[op] = len(self._operations)
            self._operations.append({"name": op.name, "version": op.version, "attributes": attributes})
        return known

    def _attribute(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, DType):
            return {"dtype": value.code}
        if isinstance(value, Dim):
            return {"size": str(value)}
        if isinstance(value, Type):
            return {"type": _type(value)}
        if isinstance(value, Graph):
            return {"graph": self.graph(value)}
        if type(value) is tuple:
            return [self._attribute(part) for part in value]
        raise TypeError(f"an operation has an attribute of type {type(value).__name__}")  # a mistake in trine.ops

    def _constant(self, node: Node) -> int:
        array = np.asarray(ENGINE.backend.download(node.buffer))
        literal = node.op is LITERAL
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        key = (literal, node.type, blake2b(data).digest())
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self._constants)
            entry: dict[str, Any] = {"type": _type(node.type)}
            if literal:
                entry["literal"] = True
            if array.nbytes <= INLINE:
                entry["bytes"] = data.hex()
            else:
                entry["array"] = f"constants.{len(self.arrays)}"
                self.arrays[entry["array"]] = array
            self._constants.append(entry)
        return known

    def _site(self, site: Where | None) -> int:
        if site is None:
            return -1
        found = Site(*site)
        entry = (Path(found.filename).name, found.line, found.text, found.path)
        if site[:2] == self._caller[:2] or not found.filename:  # the call that saves says nothing about the model
            entry = ("", 0, "", found.path)
        known = self._numbers.get(entry)
        if known is None:
            known = self._numbers[entry] = len(self._sites)
            self._sites.append(list(entry))
        return known


def _type(kind: Type) -> list[Any]:
    return [kind.dtype.code, [n if isinstance(n, int) else str(n) for n in kind.shape]]


# -- Reading -----------------------------------------------------------------------------------------------------------


class Decoder:
    """Reads graphs that share their tables."""

    def __init__(self, tables: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Keep what `Encoder.tables` returned and the large constants by name."""
        self._arrays = arrays
        self._tables = tables
        self._operations: dict[int, Op] = {}
        self._constants: dict[int, Node] = {}
        self._sizes: dict[str, Size] = {}
        self._sites: list[Where] = []
        with _readable():
            self._sites = [(SavedLine(str(f), int(n), str(text)), 0, str(path)) for f, n, text, path in tables["sites"]]

    def graph(self, data: Mapping[str, Any]) -> Graph:
        """The graph that `Encoder.graph` wrote, checked by the verifier.

        Raises:
            FileFormatError: an operation or a version that this release does not know, or values that are no graph.
        """
        with _readable():
            made = self._graph(data)
            verify(made)
            return made

    def _graph(self, data: Mapping[str, Any]) -> Graph:
        nodes = [Node(Placeholder(str(label)), (), self._type([code, sizes]), ABSTRACT)
                 for label, code, sizes in data["inputs"]]  # fmt: skip
        count = len(nodes)
        for row in data["nodes"]:
            if row[0] == -1:
                nodes.append(self._constant(row[1]))
                continue
            number, inputs, line = row
            op = self._operation(number)
            values = tuple(nodes[_position(i, len(nodes))] for i in inputs)
            site = None if line == -1 else self._sites[_position(line, len(self._sites))]
            nodes.append(Node(op, values, op.infer(*[x.type for x in values]), ABSTRACT, site))
        outputs = [nodes[_position(i, len(nodes))] for i in data["outputs"]]
        return Graph.ordered(nodes[:count], outputs, list({node.serial: node for node in nodes}.values()))

    def _operation(self, number: int) -> Op:
        if number not in self._operations:
            entry = self._tables["operations"][_position(number, len(self._tables["operations"]))]
            kind, attributes = _upgraded(entry["name"], entry["version"], entry["attributes"])
            unknown = attributes.keys() - set(kind.__match_args__)
            if unknown:
                _refuse(f"the operation {kind.name!r} has no attribute {', '.join(sorted(unknown))}")
            values = {name: self._attribute(value) for name, value in attributes.items()}
            self._operations[number] = kind(**values)
        return self._operations[number]

    def _attribute(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple([self._attribute(part) for part in value])
        if not isinstance(value, dict):
            return value
        ((tag, inner),) = value.items()
        if tag == "dtype":
            return dtypes.dtype(inner)
        if tag == "size":
            return self._size(inner)
        if tag == "type":
            return self._type(inner)
        if tag == "graph":
            return self._graph(inner)
        return _refuse(f"an attribute of the unknown kind {tag!r}")

    def _type(self, data: Sequence[Any]) -> Type:
        code, sizes = data
        return Type(tuple([self._size(n) for n in sizes]), dtypes.dtype(code))

    def _size(self, data: Any) -> Size:
        if isinstance(data, int) and not isinstance(data, bool):
            return data
        if data not in self._sizes:
            self._sizes[data] = shapes.parse(data)
        return self._sizes[data]

    def _constant(self, number: int) -> Node:
        if number not in self._constants:
            entry = self._tables["constants"][_position(number, len(self._tables["constants"]))]
            kind = self._type(entry["type"])
            stored = kind.dtype.numpy.newbyteorder("<")
            if "bytes" in entry:
                array = np.frombuffer(bytes.fromhex(entry["bytes"]), stored).reshape(kind.shape)
            else:
                array = self._arrays[entry["array"]]
            if (array.shape, array.dtype) != (kind.shape, stored):
                _refuse(f"the constant {entry.get('array', number)} is not of the type {kind}")
            buffer = ENGINE.backend.upload(np.array(array, kind.dtype.numpy, order="C"))
            self._constants[number] = Node(LITERAL if entry.get("literal") else CONSTANT, (), kind, 0, None, buffer)
        return self._constants[number]


def _upgraded(name: str, version: int, attributes: dict[str, Any]) -> tuple[type[Op], dict[str, Any]]:
    """The class of an operation, and attributes written for `version` in those of the present version."""
    kind = operations().get(name)
    if kind is None:
        _refuse(f"this release knows no operation {name!r}", newer=True)
    if version > kind.version:
        _refuse(f"the operation {name!r} has version {version}, this release knows up to {kind.version}", newer=True)
    for old in range(version, kind.version):
        attributes = UPGRADES[name, old](dict(attributes))
    return kind, attributes


def _position(number: Any, count: int) -> int:
    """A number that a graph refers by, if it is below `count`."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < count:
        _refuse(f"a reference to entry {number!r} of {count}")
    return number


def _refuse(rule: str, newer: bool = False) -> NoReturn:
    fix = "open it with the release of Trine that wrote it, or a newer one" if newer else ""
    raise FileFormatError("graph", rule, fix=fix)


@contextmanager
def _readable() -> Iterator[None]:
    """A block in which whatever goes wrong with values from a file becomes a `FileFormatError`."""
    try:
        yield
    except FileFormatError:
        raise
    except TrineError as error:
        rule = f"the stored graph breaks a rule: {error.where}: {error.rule}"
        raise FileFormatError("graph", rule, got=error.got) from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"[:200]
        raise FileFormatError("graph", "what is stored is no graph", got=got) from None
