"""`decompose ...`: one command = one function."""

import argparse
import sys
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The command line as a whole."""
    about = "What a direction, a word or a neuron of a CLIP model is made of. Its commands are not built yet."
    return argparse.ArgumentParser(prog="decompose", description=about)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    whole = parser()
    whole.parse_args(argv)
    whole.print_help()
    return 1


def run() -> None:
    """The console script."""
    sys.exit(main())
