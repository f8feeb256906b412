"""The names of partitions: "vlaw|01" is iteration 1 of experiment vlaw, '' is the foundation.

Iterations are zero-padded, because partitions are ordered as text; Dagster joins its two dimensions, in alphabetical
order, to the same names.
"""

from __future__ import annotations

import re

from vlaw_models.errors import VlawError

MAX_ITERATIONS = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def is_name(text: str) -> bool:
    """Whether it may name an experiment or a study: names become part of partitions and of folders."""
    return _NAME.fullmatch(text) is not None


def partition_of(experiment: str, iteration: int) -> str:
    """The partition of one iteration of one experiment. Raises VlawError for an iteration out of range."""
    if not 1 <= iteration <= MAX_ITERATIONS:
        raise VlawError(
            f"there is no iteration {iteration}",
            where=f"experiment {experiment}",
            remedy=f"Iterations go from 1 to {MAX_ITERATIONS}.",
        )
    return join_partition(experiment, iteration)


def single_partition(name: str) -> str:
    """The partition of what has no iterations, a dataset or a study: "droid|00"."""
    return join_partition(name, 0)


def join_partition(name: str, iteration: int) -> str:
    """The opposite of `split_partition`, of any number."""
    return f"{name}|{iteration:02d}"


def split_partition(partition: str) -> tuple[str, int]:
    """("vlaw", 1) of "vlaw|01", ("", 0) of ''; iteration 0 of what names none, which a person may have typed."""
    experiment, _, iteration = partition.partition("|")
    return experiment, int(iteration) if iteration.isascii() and iteration.isdigit() else 0
