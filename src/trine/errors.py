"""Errors in four parts: where it happened, the rule with its numbers, what was given, what to try.

Every error Trine raises on purpose is a `TrineError` with a builtin base beside it, so that `except ValueError`
written for another library keeps working.
"""

from __future__ import annotations

import contextlib
import difflib
import linecache
import os
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, TracebackType
from typing import Final

ROOT: Final = str(Path(__file__).parent) + os.sep  # code whose file begins like this is Trine's own


def is_own(filename: str) -> bool:
    """Whether a frame of this file is Trine's, or stands between two of Trine's as those of `with` blocks do."""
    return filename.startswith(ROOT) or filename == contextlib.__file__


class SavedLine:
    """A line of a program that is not at hand: stands for the code object in graphs that come from a file."""

    __slots__ = ("co_filename", "co_firstlineno", "text")

    def __init__(self, filename: str, line: int, text: str) -> None:
        """Keep the file's name, the number of the line and the line itself."""
        self.co_filename = filename
        self.co_firstlineno = line
        self.text = text


Where = tuple[CodeType | SavedLine, int, str]  # what recording keeps: code, instruction offset, layers; becomes a Site


class Site:
    """A position in the user's program, kept as a code object and an instruction offset until somebody asks."""

    __slots__ = ("code", "offset", "path")

    def __init__(self, code: CodeType | SavedLine, offset: int, path: str = "") -> None:
        """Keep `code` and the byte `offset` of its instruction, and the layers that were running as `path`."""
        self.code = code
        self.offset = offset
        self.path = path

    @property
    def filename(self) -> str:
        """The file that holds the line."""
        return self.code.co_filename

    @property
    def line(self) -> int:
        """The line's number, counted from 1; the function's first line where the offset has none."""
        if isinstance(self.code, SavedLine):
            return self.code.co_firstlineno
        for start, end, line in self.code.co_lines():
            if start <= self.offset < end and line is not None:
                return line
        return self.code.co_firstlineno

    @property
    def text(self) -> str:
        """The line itself, stripped; empty where the source is not at hand."""
        if isinstance(self.code, SavedLine):
            return self.code.text
        return linecache.getline(self.filename, self.line).strip()

    def __str__(self) -> str:
        """`train.py:41: h = self.ffn(h)`."""
        text = self.text
        if not self.filename:
            return "a line that was not kept"
        return f"{Path(self.filename).name}:{self.line}" + (f": {text}" if text else "")


class TrineError(Exception):
    """The base of all errors that Trine raises on purpose.

    Args:
        where: the operation, layer or file that refuses.
        rule: what must hold, with the numbers that break it.
        got: what was given, in types and shapes.
        fix: what to try; empty where there is no good guess.
    """

    def __init__(self, where: str, rule: str, *, got: str = "", fix: str = "") -> None:
        """Keep the four parts; `locate` adds the user's line."""
        super().__init__(where, rule)
        self.where = where
        self.rule = rule
        self.got = got
        self.fix = fix
        self.site: Site | None = None

    def locate(self, site: Site | None) -> TrineError:
        """Add the user's line and the path of the layers on the stack, once: the innermost site wins."""
        if self.site is None and site is not None:
            self.site = site
            if site.path:
                self.where = f"{site.path}: {self.where}"
        return self

    def raised_at(self, path: str = "") -> Site | None:
        """The innermost line outside of Trine that the error has come through, as a site among the layers `path`."""
        found: TracebackType | None = None
        trace = self.__traceback__
        while trace is not None:
            if not is_own(trace.tb_frame.f_code.co_filename):
                found = trace
            trace = trace.tb_next
        return None if found is None else Site(found.tb_frame.f_code, found.tb_lasti, path)

    def __str__(self) -> str:
        """Where and rule on the first line, then the user's line, what was given, what to try."""
        lines = [f"{self.where}: {self.rule}"]
        site = self.site or self.raised_at()  # what knows no stack, such as the rules of shapes, raises without one
        if site is not None:
            lines.append(f"  at {site}")
        if self.got:
            lines.append(f"  got: {self.got}")
        if self.fix:
            lines.append(f"  try: {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as text: a site holds a code object, which does not travel between processes."""
        site = self.site or self.raised_at()
        return _rebuild, (type(self), self.where, self.rule, self.got, self.fix, str(site) if site else "")


class _TextSite(Site):
    """A site of another process: only its text is left."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text
        self.path = ""

    def __str__(self) -> str:
        return self._text


def _rebuild(kind: type[TrineError], where: str, rule: str, got: str, fix: str, site: str) -> TrineError:
    error = kind(where, rule, got=got, fix=fix)
    error.site = _TextSite(site) if site else None
    return error


class ShapeError(TrineError, ValueError):
    """Sizes or ranks do not fit the operation's rule."""


class DTypeError(TrineError, TypeError):
    """A data type, or the kind of an argument, does not fit the operation's rule."""


class ArgumentError(TrineError, ValueError):
    """An argument's value is outside what the function accepts."""


class IndexRangeError(TrineError, IndexError):
    """An index or a label points outside the axis it indexes."""


class NameLookupError(TrineError, LookupError):
    """A name (of an optimiser, a loss, a parameter, a backend) is not known."""


class GradientError(TrineError, RuntimeError):
    """A gradient was asked for where none exists: history consumed, integers, or no path."""


class CaptureError(TrineError, RuntimeError):
    """A step or a graph could not be captured, or its replay would differ from its Python."""


class CompileError(TrineError, RuntimeError):
    """A graph could not be turned into a program."""


class StateError(TrineError, RuntimeError):
    """An object is not in the state that the call needs: not built, not compiled, used after a failure."""


class DataError(TrineError, ValueError):
    """The training data break a rule: NaN, lengths that differ, an empty set."""


class FileFormatError(TrineError, ValueError):
    """A file is cut short, damaged, foreign, or of a version this release cannot read."""


class FileAccessError(TrineError, OSError):
    """A file or a directory cannot be read or written."""


class MissingExtraError(TrineError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """What to try for a name that is not known: the one closest to it, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, 1)
    return repr(close[0]) if close else f"one of {', '.join(names)}"


class TrineWarning(UserWarning):
    """The base of all warnings that Trine gives."""
