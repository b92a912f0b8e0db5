"""The state of a run in a file: handles by name and the number of the next epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trine.engine import ENGINE
from trine.errors import FileFormatError, Site
from trine.files import weights
from trine.ops.base import user_site
from trine.tensor.journal import commit
from trine.tensor.tensor import Tensor, constant, leaf
from trine.tensor.tensor import read as value_of

_EPOCH = "trine.backup.epoch"


def write(path: str | Path, handles: Mapping[str, Tensor], epoch: int) -> None:
    """Write the values of handles and the number of the next epoch, whole or not at all.

    Raises:
        FileAccessError: the directory does not exist or cannot be written, or the disk is full.
    """
    ENGINE.evaluate([handle.node for handle in handles.values()])
    weights.write(path, {name: value_of(handle) for name, handle in handles.items()}, {_EPOCH: str(epoch)})


def read(path: str | Path, handles: Mapping[str, Tensor]) -> int:
    """Point all handles at the values that `write` stored, or none of them; returns the number of the next epoch.

    Raises:
        FileAccessError: there is no such file, or it cannot be read.
        FileFormatError: it is damaged or no backup, or has other names or types than the handles.
    """
    arrays, metadata = weights.read_file("restore", path)
    epoch = metadata.get(_EPOCH, "")
    if not epoch.isdecimal():
        raise _misfit(path, "this is no backup of a run", f"metadata: {', '.join(sorted(metadata)) or 'none'}")
    missing, unknown = handles.keys() - arrays.keys(), arrays.keys() - handles.keys()
    if missing or unknown:
        raise _misfit(path, f"the backup is of another model or optimizer: {len(missing)} names are missing, "
                      f"{len(unknown)} are unknown", f"for example {min(missing | unknown)}")  # fmt: skip
    bindings = []
    for name, handle in handles.items():
        array = arrays[name]
        if (array.shape, array.dtype) != (handle.shape, handle.dtype.numpy):
            raise _misfit(path, f"{name} is {handle.type}, the backup has {array.dtype}{list(array.shape)}", name)
        node = constant(array)
        bindings.append((handle, leaf(node, handle) if handle._requires else node))
    commit(bindings)
    return int(epoch)


def _misfit(path: str | Path, rule: str, got: str) -> FileFormatError:
    made = FileFormatError("restore", f"{path}: {rule}", got=got, fix="another path, or delete the file to start anew")
    made.locate(Site(*user_site()))
    return made
