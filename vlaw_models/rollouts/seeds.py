"""Which layouts a purpose sees, decided here alone: nothing trained is ever evaluated on its own layouts, and two
experiments are evaluated on the same ones.
"""

from __future__ import annotations

from vlaw_models.errors import VlawError

PURPOSES = ("rollout", "evaluation", "demonstration", "co_training", "pretraining", "validation", "near_success")
MEASURING = ("evaluation", "validation")
"""Purposes whose layouts nothing is trained on: policies are measured on these only."""
HELD_OUT_SEEDS = 500_000
"""Seeds of experiments stay below; from here on they are kept for validation rollouts, which nothing is trained on."""
_PURPOSE, _SEED, _ITERATION = 10**15, 10**9, 10**6
"""A start seed reads purpose | seed (6 digits) | iteration (3) | index (6), so ranges cannot meet. Below 2**53."""


def start_seeds(purpose: str, task: str, iteration: int, seed: int, count: int) -> list[int]:
    """Seeds of `count` starts; disjoint between purposes, experiment seeds and iterations.

    Evaluation and validation ignore `seed` and `iteration`: everybody is measured on the same layouts. The task does
    not enter: each task draws from a stream of its own, so equal numbers are unrelated layouts.
    """
    where = f"start_seeds({purpose!r}, {task!r}, iteration={iteration}, seed={seed}, count={count})"
    if purpose not in PURPOSES:
        raise VlawError(f"unknown purpose {purpose!r}", where=where, remedy=f"choose one of {', '.join(PURPOSES)}")
    if not (0 <= seed < _PURPOSE // _SEED and 0 <= iteration < _SEED // _ITERATION and 0 <= count <= _ITERATION):
        raise VlawError(
            "the seed ranges would overlap",
            where=where,
            remedy="keep 0 <= seed < 1,000,000, 0 <= iteration < 1,000 and count <= 1,000,000",
        )
    if purpose in MEASURING:
        seed = iteration = 0
    first = (PURPOSES.index(purpose) + 1) * _PURPOSE + seed * _SEED + iteration * _ITERATION
    return list(range(first, first + count))
