"""`trine show FILE`: what a saved model, or a file of weights, holds."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trine.errors import NameLookupError
from trine.files.container import Signature, Stored, read_stored
from trine.files.weights import Array, read_file
from trine.ir.graph import Node
from trine.ir.printer import to_text
from trine.tensor.tensor import constant


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "show", help="print what a .trine file or a safetensors file holds"
    )
    parser.add_argument("file", help="the file")
    parser.add_argument("--graph", metavar="SIGNATURE", help="print the graph of a signature too, for example predict")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print signatures, tensors and, if asked for, a graph; returns the exit status 0.

    Raises:
        FileAccessError: there is no such file, or it cannot be read.
        FileFormatError: it is neither a .trine file nor a safetensors file.
        NameLookupError: there is no signature of that name.
    """
    contents = read_file("show", options.file)
    size = Path(options.file).stat().st_size / 1024
    if "trine.format" in contents.metadata:
        stored = read_stored(options.file)
        chosen = _signature(stored, options.graph)
        print(f"{options.file}: {stored.config.get('class', 'a model')}, {size:,.0f} KB, "
              f"written by Trine {stored.version}\n")  # fmt: skip
        _print_signatures(stored)
        _print_tensors([(name, entry.value, entry.kind) for name, entry in stored.state.items()])
        if chosen is not None:
            print(f"\n{options.graph}\n{to_text(chosen.graph, '  ')}")
        return 0
    if options.graph:
        _signature(Stored({}, {}), options.graph)
    print(f"{options.file}: weights without a graph, {size:,.0f} KB\n")
    _print_tensors([(name, array, "") for name, array in contents.arrays.items()])
    return 0


def _signature(stored: Stored, name: str | None) -> Signature | None:
    if name is None:
        return None
    if name not in stored.signatures:
        raise NameLookupError("show", f"no signature is called {name!r}", got=f"--graph {name}",
                              fix=f"one of {', '.join(stored.signatures)}" if stored.signatures else "")  # fmt: skip
    return stored.signatures[name]


def _print_signatures(stored: Stored) -> None:
    print("signatures")
    for name, signature in stored.signatures.items():
        graph, reads, writes = signature.graph, len(signature.reads), len(signature.writes)
        inputs, outputs = graph.inputs[: len(graph.inputs) - reads], graph.outputs[: len(graph.outputs) - writes]
        changed = f", changes {writes}" if writes else ""
        print(f"  {name}({_types(inputs)}) -> {_types(outputs)}\n"
              f"    {len(graph.nodes) - len(graph.inputs)} operations, reads {reads} tensors{changed}")  # fmt: skip
    print()


def _types(nodes: Sequence[Node]) -> str:
    return ", ".join(str(node.type) for node in nodes) or "nothing"


def _print_tensors(tensors: Iterable[tuple[str, Array, str]]) -> None:
    rows = [(name, str(constant(array).type), kind, array.size) for name, array, kind in tensors]
    widths = max((len(row[0]) for row in rows), default=0), max((len(row[1]) for row in rows), default=0)
    print("tensors")
    for name, kind, place, _ in rows:
        print(f"  {name:{widths[0]}}  {kind:{widths[1]}}  {place}".rstrip())
    print(f"{sum(row[3] for row in rows):,} numbers in {len(rows)} tensors")
