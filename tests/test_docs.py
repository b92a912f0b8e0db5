"""Every Python block of the documentation runs, page by page, in a fresh process and an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
LIMIT_S = 300  # a page that hangs should not hang the suite


class Block(NamedTuple):
    """A fenced block: its language, the lines it covers (counted from 0, fences excluded), why it is not run."""

    language: str
    start: int
    stop: int
    not_run: str


def fenced_blocks(lines: list[str]) -> Iterator[Block]:
    start, fence, language, previous, reason = None, "", "", "", ""
    for number, line in enumerate(lines):
        if start is None:
            opening = re.match(r"(`{3,}|~{3,})\s*(\S*)", line)
            if opening:
                fence, language = opening.groups()
                start = number + 1
                mark = NOT_RUN.fullmatch(previous)
                reason = mark.group(1) if mark else ""
            elif line.strip():
                previous = line.strip()
        elif line.rstrip() == fence:
            yield Block(language, start, number, reason)
            start, previous = None, ""
    if start is not None:
        raise ValueError(f"the block that opens at line {start} is never closed")


def python_blocks(page: Path) -> list[Block]:
    blocks = fenced_blocks(page.read_text(encoding="utf-8").splitlines())
    return [block for block in blocks if block.language == "python"]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def program(lines: list[str], blocks: list[Block]) -> str:
    """The page with everything but its blocks blanked out, so that a traceback names the page's own lines."""
    kept = [""] * len(lines)
    for block in blocks:
        kept[block.start : block.stop] = lines[block.start : block.stop]
    return "\n".join(kept) + "\n"


def run_page(page: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    lines = page.read_text(encoding="utf-8").splitlines()
    # Outside the working directory, which a block may list, and under the page's own name, which errors quote.
    script = directory / "page" / page.name
    script.parent.mkdir()
    script.write_text(program(lines, [block for block in python_blocks(page) if not block.not_run]), encoding="utf-8")
    workplace = directory / "work"
    workplace.mkdir()
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=workplace,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def runs() -> Iterator[Any]:
    """A case for each page with blocks to run, and one, skipped with its reason, for each block that is not run."""
    for page in PAGES:
        blocks = python_blocks(page)
        if any(not block.not_run for block in blocks):
            yield pytest.param(page, id=page_name(page))
        for block in blocks:
            if block.not_run:
                name = f"{page_name(page)}:{block.start}"
                yield pytest.param(page, id=name, marks=pytest.mark.skip(reason=f"{name} is not run: {block.not_run}"))


@pytest.mark.parametrize("page", list(runs()))
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    result = run_page(page, tmp_path)
    if result.returncode:
        pytest.fail(f"{page_name(page)} does not run:\n{result.stdout}", pytrace=False)


def test_a_mark_leaves_out_only_the_block_under_it() -> None:
    text = "<!-- not run: needs a server -->\n\n```python\na\n```\n\ntext\n\n```python\nb\n```\n```bash\nc\n```\n"
    blocks = list(fenced_blocks(text.splitlines()))
    assert blocks == [Block("python", 3, 4, "needs a server"), Block("python", 9, 10, ""), Block("bash", 12, 13, "")]


def test_a_block_that_is_never_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match="line 1 is never closed"):
        list(fenced_blocks(["```python", "x = 1"]))


def test_blocks_share_names_and_errors_name_the_page_and_its_line(tmp_path: Path) -> None:
    page = tmp_path / "tour.md"
    page.write_text("# Tour\n```python\nx = 1\n```\ntext\n```python\nassert x == 1\nraise KeyError(x)\n```\n")
    result = run_page(page, tmp_path)
    assert result.returncode == 1
    assert 'tour.md", line 8' in result.stdout
    assert "KeyError: 1" in result.stdout
