"""The table of a model: what is inside, what comes out of each part, how many numbers it holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trine.ir.graph import Type
from trine.shapes import format_shape
from trine.tensor.tensor import Tensor

if TYPE_CHECKING:
    from trine.nn.module import Module


def print_summary(root: Module) -> None:
    """Print a row for every module inside `root` and for its own tensors, and the totals; see `Module.summary`."""
    table = Table(title=f"{type(root).__name__}", title_justify="left")
    for heading in ("layer", "type", "output shape", "parameters", "trainable"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left", overflow="fold")
    for name, module in root.named_modules():
        own = [tensor for _, tensor in module.own_tensors()]
        if module is root and not own and sum(1 for _ in root.modules()) > 1:
            continue
        row = (name or "itself", module.describe(), shape_text(module), f"{numbers(own):,}", trainable_text(own))
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    console.print(table)
    tensors = list(_tensors(root).values())
    trained = numbers([tensor for tensor in tensors if tensor.requires_grad])
    total = numbers(tensors)
    waiting = sum(not module.built for module in root.modules())
    console.print(f"{total:,} parameters: {trained:,} trainable, {total - trained:,} not", highlight=False)
    if waiting:
        console.print(f"{waiting} of the modules wait for their first call to make theirs", highlight=False)


def _tensors(root: Module) -> dict[int, Tensor]:
    """All parameters and state, each once, by identity."""
    return {id(tensor): tensor for module in root.modules() for _, tensor in module.own_tensors()}


def numbers(tensors: list[Tensor]) -> int:
    """How many elements the tensors have in all."""
    return sum(math.prod(int(n) for n in tensor.shape) for tensor in tensors)


def shape_text(module: Module) -> str:
    """The shapes that the last call returned: `[32, 10]`; empty before."""
    found = module._types
    if found is None:
        return "not called" if module.built else "not built"
    types = (found,) if isinstance(found, Type) else found
    return ", ".join(format_shape(kind.shape) for kind in types)


def trainable_text(own: list[Tensor]) -> str:
    """Whether training changes all, some or none of the tensors; empty where there are none."""
    if not own:
        return ""
    trained = sum(tensor.requires_grad for tensor in own)
    return "yes" if trained == len(own) else "no" if not trained else "partly"
