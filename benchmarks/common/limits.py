"""How a benchmark is asked for less, and how it says that a limit is not kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

MISSED = 3
"""Exit status of a script that ran to its end and missed a limit; a script that failed ends with 1 or 2."""


class Limits:
    """Figures held against what is promised of them."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def at_most(self, name: str, value: float, limit: float) -> None:
        if value > limit:
            self.missed.append(f"{name}: {value:.3g}, at most {limit:g} wanted")

    def at_least(self, name: str, value: float, limit: float) -> None:
        if value < limit:
            self.missed.append(f"{name}: {value:.3g}, at least {limit:g} wanted")

    def status(self) -> int:
        """Prints what was missed; the exit status of the script."""
        for line in self.missed:
            print(f"missed: {line}")
        if not self.missed:
            print("every limit is kept")
        return MISSED if self.missed else 0


def options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None, **quick: object
) -> argparse.Namespace:
    """The parsed arguments, with `--quick`: then the values of `quick` stand for the defaults.

    What is given beside `--quick` counts all the same. Every benchmark asks for its arguments here.
    """
    smaller = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in quick.items()) or "the defaults"
    parser.add_argument("--quick", action="store_true", help=f"as `make bench` runs it: {smaller}")
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(**quick)
    return parser.parse_args(arguments)
