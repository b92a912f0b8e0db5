"""Arrays by name in a safetensors file, which many programs read: weights without a graph.

The format is that of https://github.com/huggingface/safetensors: the length of the header in 8 bytes, the header as
JSON (type, shape and place of each tensor, and texts under `__metadata__`), and the elements, little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from trine import dtypes
from trine.engine import ENGINE
from trine.errors import DTypeError, FileAccessError, FileFormatError, Site
from trine.files.atomic import replacing
from trine.ops.base import user_site
from trine.tensor.tensor import Tensor, read

Array = np.ndarray[Any, Any]
METADATA: Final = "__metadata__"
_STORED: Final = {
    "BOOL": np.bool_, "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64, "U8": np.uint8,
    "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F32": np.float32, "F64": np.float64,
}  # fmt: skip


class Contents(NamedTuple):
    """What a safetensors file holds.

    Attributes:
        arrays: the tensors by name, read-only.
        metadata: texts by name.
    """

    arrays: dict[str, Array]
    metadata: dict[str, str]


def save_weights(path: str | Path, weights: Mapping[str, Any]) -> None:
    """Write arrays or tensors by name as a safetensors file, whole or not at all.

    Args:
        path: the file; one that is there is replaced.
        weights: arrays or tensors, for example a `state_dict()`.

    Raises:
        FileAccessError: the directory does not exist or cannot be written, or the disk is full.
        DTypeError: a value that is no array of a data type of Trine, or a name that is no string.

    Example:
        >>> import tempfile, trine
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "weights.safetensors"
        >>> trine.save_weights(path, {"kernel": trine.ones((2, 3))})
        >>> trine.load_weights(path)["kernel"].shape
        (2, 3)
    """
    tensors = [value for value in weights.values() if isinstance(value, Tensor)]
    ENGINE.evaluate([x.node for x in tensors])
    write(path, {name: _array(name, value) for name, value in weights.items()}, {})


def _array(name: Any, value: Any) -> Array:
    array = read(value) if isinstance(value, Tensor) else np.asarray(value)
    known = array.dtype.newbyteorder("=") in {d.numpy for d in dtypes.ALL}
    if not isinstance(name, str) or not known:
        rule = "weights are arrays of numbers by name" if isinstance(name, str) else "a name is a string"
        raise DTypeError("save_weights", rule, got=f"{name!r}: {array.dtype}", fix="model.state_dict()").locate(
            Site(*user_site()))  # fmt: skip
    return array


def load_weights(path: str | Path) -> dict[str, Array]:
    """The arrays of a safetensors file by name, read-only; of a `.trine` file, the parameters and state of its model.

    `model.load_state_dict(trine.load_weights(path))` gives them to a model of the same structure.

    Raises:
        FileAccessError: there is no such file, or it cannot be read.
        FileFormatError: it is cut short, or no safetensors file.
    """
    arrays, metadata = read_file("load_weights", path)
    if "trine.state" not in metadata:
        return arrays
    entries = parsed("load_weights", path, metadata["trine.state"])
    return {entry["name"]: arrays[entry["array"]] for entry in entries if entry["kind"] in ("parameter", "state")}


# -- The format --------------------------------------------------------------------------------------------------------


def write(path: str | Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all; the same contents give the same bytes.

    Raises:
        FileAccessError: the directory does not exist or cannot be written, or the disk is full.
    """
    stored = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    with replacing(path) as temporary:
        try:
            save_file(stored, temporary, metadata=dict(metadata) or None)
        except SafetensorError as error:
            raise OSError(None, str(error)) from None
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Write the header in the order of names: the library's own order of texts differs from run to run."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header = {METADATA: dict(sorted(header.pop(METADATA, {}).items())), **header}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def read_file(where: str, path: str | Path) -> Contents:
    """The arrays and the metadata of a safetensors file.

    Args:
        where: what the user called, for errors.
        path: the file.

    Raises:
        FileAccessError: there is no such file, or it cannot be read.
        FileFormatError: it is cut short, or no safetensors file, or holds a data type that Trine has not.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        parent = Path(path).parent
        fix = "" if parent.exists() else f"the directory {parent} does not exist either"
        rule = f"{path} cannot be read: {error.strerror or error}"
        raise FileAccessError(where, rule, got=str(path), fix=fix).locate(Site(*user_site())) from None
    header = _header(where, path, data)
    try:
        found = deserialize(data)  # type: ignore[no-untyped-call]  # the library types its wrappers only
    except SafetensorError as error:
        raise _format_error(where, path, f"the header and the elements do not agree: {error}", data) from None
    del data
    arrays = {}
    for name, entry in found:
        if entry["dtype"] not in _STORED:
            raise FileFormatError(where, f"{name!r} in {path} has the type {entry['dtype']}, which Trine has not",
                                  got=str(path)).locate(Site(*user_site()))  # fmt: skip
        little = np.dtype(_STORED[entry["dtype"]]).newbyteorder("<")
        array = np.frombuffer(entry["data"], little).reshape(entry["shape"])
        array = array.astype(little.newbyteorder("="), copy=False)
        array.flags.writeable = False
        arrays[name] = array
    return Contents({name: arrays[name] for name in sorted(arrays)}, header.get(METADATA, {}))


def _header(where: str, path: str | Path, data: bytes) -> dict[str, Any]:
    """The header, once its length and its JSON are known to be right."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > 2**40 or (len(data) > 8 and data[8:9] != b"{"):
        raise _format_error(where, path, "this is no file of Trine, and no safetensors file", data)
    if len(data) < 8 + length:
        raise _format_error(where, path, f"the file is cut short: {len(data)} bytes of a header of {length}", data)
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != METADATA]
    except (ValueError, TypeError, LookupError) as error:
        raise _format_error(where, path, f"the header is damaged: {error}", data) from None
    whole = 8 + length + max(ends, default=0)
    if len(data) < whole:
        raise _format_error(where, path, f"the file is cut short: {len(data)} bytes of {whole}", data)
    return header


def _format_error(where: str, path: str | Path, rule: str, data: bytes) -> FileFormatError:
    fix = "a complete copy of the file" if "cut short" in rule else ""
    made = FileFormatError(where, f"{path}: {rule}", got=f"{len(data)} bytes, which begin with {data[:12]!r}", fix=fix)
    made.locate(Site(*user_site()))
    return made


def parsed(where: str, path: str | Path, text: str) -> Any:
    """The JSON value of a text in the metadata.

    Raises:
        FileFormatError: it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise FileFormatError(where, f"{path}: the metadata are damaged: {error}", got=f"{text:.60}").locate(
            Site(*user_site())) from None  # fmt: skip
