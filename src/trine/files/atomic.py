"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trine.errors import FileAccessError, Site
from trine.ops.base import user_site


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends and is removed if it fails.

    Raises:
        FileAccessError: the directory does not exist or cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        if isinstance(error, FileAccessError):
            raise
        fix = "make the directory first" if not target.parent.exists() else "choose a directory you may write to"
        raise FileAccessError("save", f"{target} cannot be written: {error.strerror or error}", got=str(target),
                              fix=fix).locate(Site(*user_site())) from None  # fmt: skip
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
