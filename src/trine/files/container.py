"""The `.trine` file: a safetensors file whose metadata hold graphs.

Any reader of safetensors sees the tensors under their names. The metadata are texts:

- `trine.format`: the version of this layout, a number;
- `trine.version`: the release that wrote the file;
- `trine.state`: a list of the tensors that signatures read and re-bind: name, kind, the array that holds the value;
- `trine.signatures`: the graphs by name, and the tables that they share (`trine.files.codec`);
- `trine.config`: what the writer wants to keep, a JSON value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import trine
from trine import tree
from trine.errors import FileFormatError, Site
from trine.files.codec import Decoder, Encoder
from trine.files.weights import Array, parsed, read_file, write
from trine.ir.graph import Graph
from trine.ops.base import user_site

FORMAT: Final = 1


@dataclass(frozen=True)
class Signature:
    """A function as a graph, with the state that it reads and re-binds.

    The inputs of the graph are the tensors among the arguments, then `reads`; its outputs are the tensors among the
    results, then `writes`.

    Attributes:
        graph: the graph.
        arguments: the container of the arguments, a tuple.
        results: the container of the results.
        fixed: a result that is no tensor but a number, a text or a bool, by its position; they have no output.
        reads: names of state.
        writes: names of state.
    """

    graph: Graph
    arguments: tree.Structure
    results: tree.Structure
    fixed: Mapping[int, Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A tensor of the state.

    Attributes:
        value: its value.
        kind: "parameter" and "state" belong to the model, "optimizer", "random" and "hidden" do not.
    """

    value: Array
    kind: str


@dataclass(frozen=True)
class Stored:
    """The contents of a `.trine` file.

    Attributes:
        signatures: by name.
        state: by name.
        config: a JSON value.
        version: the release of Trine that wrote the file.
    """

    signatures: Mapping[str, Signature]
    state: Mapping[str, Entry]
    config: dict[str, Any] = field(default_factory=dict)
    version: str = ""


def write_stored(path: str | Path, stored: Stored) -> None:
    """Write a `.trine` file, whole or not at all.

    Raises:
        FileAccessError: the directory does not exist or cannot be written, or the disk is full.
        ArgumentError: a graph has an operation that is no primitive of Trine.
    """
    encoder = Encoder()
    signatures = {name: _signature(encoder, part) for name, part in stored.signatures.items()}
    arrays = dict(encoder.arrays)
    state = []
    for name, entry in stored.state.items():
        label = name
        while label in arrays:
            label += "'"  # a tensor of the model is called like a constant
        arrays[label] = entry.value
        state.append({"name": name, "kind": entry.kind, "array": label})
    texts = {
        "trine.format": str(FORMAT),
        "trine.version": stored.version or trine.__version__,
        "trine.state": _text(state),
        "trine.signatures": _text({"signatures": signatures, "tables": encoder.tables()}),
        "trine.config": _text(stored.config),
    }
    write(path, arrays, texts)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_stored(path: str | Path) -> Stored:
    """The contents of a `.trine` file, whatever release wrote it.

    Raises:
        FileAccessError: there is no such file, or it cannot be read.
        FileFormatError: it is cut short, damaged, foreign, or of a newer format than this release knows.
    """
    arrays, metadata = read_file("load", path)
    _check_format(path, metadata)
    try:
        texts = {name: parsed("load", path, metadata[f"trine.{name}"]) for name in ("state", "signatures", "config")}
        entries = {part["name"]: Entry(arrays[part["array"]], part["kind"]) for part in texts["state"]}
        decoder = Decoder(texts["signatures"]["tables"], arrays)
        found = {name: _decoded(decoder, part) for name, part in texts["signatures"]["signatures"].items()}
        _check_state(found, entries)
    except FileFormatError as error:
        if not error.where.startswith("load"):
            error.where = f"load: {path}: {error.where}"
        raise error.locate(Site(*user_site())) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        _refuse(path, "the metadata are damaged", f"{type(error).__name__}: {error}"[:200])
    return Stored(found, entries, texts["config"], metadata.get("trine.version", ""))


def _check_format(path: str | Path, metadata: Mapping[str, str]) -> None:
    if "trine.format" not in metadata:
        _refuse(path, "this is a safetensors file without a graph of Trine",
                f"metadata: {', '.join(sorted(metadata)) or 'none'}",
                "trine.load_weights(path) reads its weights, model.load_state_dict(weights) takes them")  # fmt: skip
    form = metadata["trine.format"]
    if not form.isdecimal():
        _refuse(path, "the metadata are damaged", f"trine.format is {form!r:.60}")
    if int(form) > FORMAT:
        _refuse(path, f"the file has format {form}, this release reads up to {FORMAT}",
                f"written by Trine {metadata.get('trine.version', '?')}",
                "open it with the release of Trine that wrote it, or a newer one")  # fmt: skip


def _refuse(path: str | Path, rule: str, got: str, fix: str = "") -> NoReturn:
    raise FileFormatError("load", f"{path}: {rule}", got=got, fix=fix).locate(Site(*user_site())) from None


def _check_state(signatures: Mapping[str, Signature], entries: Mapping[str, Entry]) -> None:
    """Check that the state that graphs read is there, in the types that they expect."""
    for name, signature in signatures.items():
        count = len(signature.graph.inputs) - len(signature.reads)
        results = len(signature.graph.outputs) - len(signature.writes)
        if count != _leaves(signature.arguments) or results != _leaves(signature.results) - len(signature.fixed):
            raise FileFormatError(name, f"the graph has {len(signature.graph.inputs)} inputs and "
                                  f"{len(signature.graph.outputs)} outputs, which the signature does not")  # fmt: skip
        ends = [*zip(signature.reads, signature.graph.inputs[count:], strict=True),
                *zip(signature.writes, signature.graph.outputs[results:], strict=True)]  # fmt: skip
        for part, node in ends:
            value = entries[part].value
            if (value.shape, value.dtype) != (node.shape, node.dtype.numpy):
                raise FileFormatError(name, f"{part} is stored as {value.dtype}{list(value.shape)}, the graph has "
                                      f"{node.type}")  # fmt: skip


def _leaves(structure: tree.Structure) -> int:
    if structure.kind is None:
        return 1
    return sum(_leaves(child) for child in structure.children)


# -- Signatures as JSON values -----------------------------------------------------------------------------------------


def _signature(encoder: Encoder, signature: Signature) -> dict[str, Any]:
    return {
        "graph": encoder.graph(signature.graph),
        "arguments": _structure(signature.arguments),
        "results": _structure(signature.results),
        "fixed": [list(pair) for pair in signature.fixed.items()],
        "reads": list(signature.reads),
        "writes": list(signature.writes),
    }


def _decoded(decoder: Decoder, data: Mapping[str, Any]) -> Signature:
    return Signature(
        decoder.graph(data["graph"]), _restored(data["arguments"]), _restored(data["results"]),
        {int(place): value for place, value in data["fixed"]}, tuple(data["reads"]), tuple(data["writes"]),
    )  # fmt: skip


def _structure(structure: tree.Structure) -> Any:
    """A container: "leaf", "none", `{"list": [...]}`, `{"tuple": [...]}`, `{"dict": [[key, ...], ...]}`."""
    kind = structure.kind
    if kind is None:
        return "leaf"
    if kind is type(None):
        return "none"
    parts = [_structure(child) for child in structure.children]
    if kind is list:
        return {"list": parts}
    if issubclass(kind, tuple):  # a named tuple comes back as a tuple: its class is the user's code
        return {"tuple": parts}
    return {"dict": [list(pair) for pair in zip(structure.keys, parts, strict=True)]}


def _restored(data: Any) -> tree.Structure:
    if data == "leaf":
        return tree.LEAF
    if data == "none":
        return tree.Structure(type(None), (), ())
    ((kind, parts),) = data.items()
    if kind == "dict":
        return tree.Structure(dict, tuple(key for key, _ in parts), tuple(_restored(part) for _, part in parts))
    return tree.Structure({"list": list, "tuple": tuple}[kind], (), tuple(_restored(part) for part in parts))
