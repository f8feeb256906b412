"""How a training is made to fit: with the needs of the paper's models, as they were measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlaw_models.planning.choose import (
    Chosen,
    Hardware,
    Misfit,
    Settings,
    choose,
    generating,
    memory_of,
    most_at_once,
)
from vlaw_models.planning.fake import Run
from vlaw_models.planning.needs import Generation, Training

GIB = 2**30
WORLD_MODEL = Training(
    "CtrlWorld",
    1_526_730_474,
    4 * 1_526_730_474,
    4 * 1_526_730_474,
    GIB // 4,
    kept=Run(22 * GIB, 23 * GIB, 3 * GIB, 29 * 10**12),
    recomputed=Run(4 * GIB, 8 * GIB, 0, 38 * 10**12),
)


def on(gpus, gib):
    return Hardware(gpus, int(gib * GIB), 4e14)


def test_a_gpu_of_80_gib_takes_windows_of_the_paper_in_parts():
    found = choose(WORLD_MODEL, 64, on(1, 80), averaged=True)
    assert isinstance(found, Chosen)
    assert not found.settings.sharded  # there is nobody to share with
    assert found.memory <= 0.92 * 80 * GIB
    more = replace(found.settings, micro_batch=found.settings.micro_batch + 1)
    parts = -(-64 // more.micro_batch)
    fits = memory_of(WORLD_MODEL, more, 1, averaged=True) <= 0.92 * 80 * GIB
    assert not fits or -(-64 // found.settings.micro_batch) == parts, "one more at once saves no part, or does not fit"


def test_the_simplest_way_in_which_enough_fit_is_taken():
    small = replace(WORLD_MODEL, kept=Run(GIB, GIB, 0, 1))
    assert choose(small, 64, on(8, 80), averaged=True).settings == Settings(8, recompute=False, sharded=False)
    # 28 GiB of state and 6 of buckets beside three windows of 20: activations are computed again before that
    found = choose(WORLD_MODEL, 64, on(8, 80), averaged=True)
    assert found.settings.micro_batch >= 4
    assert found.settings.recompute or found.settings.sharded


def test_weights_that_do_not_fit_one_gpu_are_sharded_over_all():
    found = choose(WORLD_MODEL, 64, on(8, 32), averaged=True)
    assert found.settings.sharded
    assert isinstance(choose(WORLD_MODEL, 64, on(1, 32), averaged=True), Misfit)


def test_what_does_not_fit_says_what_would():
    found = choose(WORLD_MODEL, 64, on(1, 24), averaged=True)
    assert isinstance(found, Misfit)
    assert isinstance(choose(WORLD_MODEL, 64, Hardware(1, found.memory + GIB, 4e14), averaged=True), Chosen)
    assert isinstance(choose(WORLD_MODEL, 64, Hardware(1, found.memory - GIB, 4e14), averaged=True), Misfit)
    assert found.gpus == 4
    assert isinstance(choose(WORLD_MODEL, 64, on(found.gpus, 24), averaged=True), Chosen)
    assert isinstance(choose(WORLD_MODEL, 64, on(found.gpus // 2, 24), averaged=True), Misfit)


def test_no_number_of_gpus_helps_where_one_sample_is_too_large():
    found = choose(replace(WORLD_MODEL, recomputed=None), 64, on(1, 16), averaged=True)
    assert isinstance(found, Misfit)
    assert found.gpus is None


def test_models_that_generate_are_on_a_gpu_together_and_work_in_turn():
    policy = Generation("Pi0Policy", 1, 12 * GIB, Run(0, 3 * GIB, GIB, 1))
    decoding = Generation("VideoAutoencoder", 1, GIB, Run(0, 9 * GIB, 0, 1), grows=False)
    assert generating([policy, decoding], 1) == 14 * GIB + 9 * GIB, "a pass of the autoencoder"
    assert generating([policy, decoding], 10) == 14 * GIB + 20 * GIB
    most = most_at_once([policy, decoding], on(1, 40))
    assert generating([policy, decoding], most) <= 0.92 * 40 * GIB < generating([policy, decoding], most + 1)
    assert most_at_once([policy, decoding], on(1, 24)) == 0, "not even one"


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_no_more_samples_at_once_than_a_gpu_has(batch_size):
    small = replace(WORLD_MODEL, kept=Run(1, 1, 0, 1))
    found = choose(small, batch_size, on(2, 80), averaged=False)
    assert found.settings.micro_batch == -(-batch_size // 2)
