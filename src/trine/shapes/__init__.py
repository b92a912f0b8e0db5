"""Sizes that are numbers or symbols, and the rules of shapes."""

from trine.shapes.binding import bind, bind_all, check
from trine.shapes.dim import Dim, Shape, Size, evaluate, max_size, min_size, parse, same, substitute, symbols
from trine.shapes.rules import (
    as_shape,
    broadcast,
    conv_size,
    format_shape,
    normalize_axes,
    normalize_axis,
    normalize_slice,
    reshape,
    same_padding,
    size_of,
)

__all__ = [
    "Dim",
    "Shape",
    "Size",
    "as_shape",
    "bind",
    "bind_all",
    "broadcast",
    "check",
    "conv_size",
    "evaluate",
    "format_shape",
    "max_size",
    "min_size",
    "normalize_axes",
    "normalize_axis",
    "normalize_slice",
    "parse",
    "reshape",
    "same",
    "same_padding",
    "size_of",
    "substitute",
    "symbols",
]
