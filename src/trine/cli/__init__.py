"""The command line: `trine demo` trains on real digits, `trine show` prints what is in a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import trine
from trine.cli import demo, show
from trine.errors import TrineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 1 after an error that is printed in its four parts.

    Args:
        arguments: the words after `trine`; those of the process unless given.
    """
    parser = argparse.ArgumentParser(prog="trine", description=trine.__doc__.splitlines()[0] if trine.__doc__ else "")
    parser.add_argument("--version", action="version", version=f"trine {trine.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo.add_to(commands)
    show.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except TrineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status
