"""What data are called cannot change the page that shows them: Markdown, plots, film strips, captions."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from factories import episode
from PIL import Image

from vlaw_assets.reports import stage_pictures
from vlaw_assets.reports.markdown import literal
from vlaw_assets.reports.numbers import shown
from vlaw_assets.reports.stage_pictures import Scored
from vlaw_assets.reports.success import measured_table, rate, success_table
from vlaw_models.film import even
from vlaw_models.pictures import caption

HOSTILE = "a|b `c` <img src=x>\n![t](http://evil) $x_1$ _e_ \x1b[31m &amp; \x00~~z~~"


def test_marks_of_markdown_are_shown_as_they_are():
    said = literal(HOSTILE)
    assert "\n" not in said
    assert "\x1b" not in said
    assert said.isprintable()
    for mark in ("\\|", "\\`", "\\<", "\\!\\[t\\]", "\\$", "\\_e\\_", "&amp;amp;"):
        assert mark in said, mark
    assert literal("half_open 0.5") == "half_open 0.5", "what is harmless stays readable"


def test_a_table_keeps_its_columns_whatever_a_task_is_called():
    texts = [
        success_table({"before": {HOSTILE: rate(1, 2), "all": rate(1, 2)}}),
        measured_table([{"task": HOSTILE, "metric": "psnr", "camera": None, "value": 1.0, "low": None, "trials": 1}]),
    ]
    for text in texts:
        rows = text.split("\n")
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1, text


def test_pictures_are_drawn_of_whatever_tasks_are_called():
    episodes = [
        episode(
            HOSTILE, seed, success=bool(seed % 2), event=HOSTILE, instruction=HOSTILE, steps=5, size=(8, 8), noise=seed
        )
        for seed in range(3)
    ]
    rates = {HOSTILE: rate(1, 3), "all": rate(1, 3)}
    drawn = [
        stage_pictures.rollouts(episodes, episodes),
        stage_pictures.evaluation(rates, rates, episodes),
        stage_pictures.iterations({"before": rates, "after 01": rates}),
        stage_pictures.members([HOSTILE], {(HOSTILE, "real"): 2}),
        stage_pictures.scored(
            [
                Scored(str(number), HOSTILE, *said)
                for number, said in enumerate([(0.9, True), (0.85, False), (0.1, None)])
            ],
            0.8,
            lambda ids: [replace(episodes[int(name)], episode_id=name) for name in ids],
        ),
        stage_pictures.replays(episodes, episodes),
        stage_pictures.training([0.5] * 60, {0: rate(1, 2), 5: rate(2, 2)}, 5, episodes),
    ]
    for png in drawn:
        assert Image.open(io.BytesIO(png)).width == 700
    assert caption(episodes[0]).isprintable()


def test_strips_are_chosen_by_score_and_show_where_the_judge_errs():
    found = [Scored(str(number), "stack", number / 20, number % 3 == 0) for number in range(20)]
    chosen = stage_pictures.chosen_by_score(found, 0.5)
    scores = [one.score for one in chosen]
    assert scores == sorted(scores, reverse=True)
    assert len(set(chosen)) == stage_pictures.STRIPS
    assert len({(one.score > 0.5, one.truth) for one in chosen}) == 4, "accepted and not, right and wrong"
    assert scores[0] > 0.5 >= scores[-1]
    tasks = [Scored(str(number), "book" if number % 2 else "stack", 0.9) for number in range(100_000)]
    assert {one.task for one in stage_pictures.chosen_by_score(tasks, 0.5)} == {"book", "stack"}


def test_only_the_first_success_and_failure_of_a_task_are_kept_with_few_frames():
    seen = stage_pictures.WonAndLost()
    for seed in range(6):
        seen(episode("book" if seed < 2 else "stack", seed, success=bool(seed % 2), steps=20, noise=seed))
    assert [(one.task, one.success, one.seed) for one in seen.episodes] == [
        ("book", True, 1),
        ("book", False, 0),
        ("stack", True, 3),
        ("stack", False, 2),
    ]
    assert all(len(one.images) == 8 and one.images.base is None for one in seen.episodes)


@pytest.mark.parametrize(("total", "count"), [(1, 8), (3, 8), (8, 8), (29, 8)])
def test_moments_are_even_and_hold_both_ends(total, count):
    found = even(total, count)
    assert (found[0], found[-1]) == (0, total - 1)
    assert len(found) == min(total, count)


def test_a_number_is_shown_with_what_counts_of_it():
    assert shown(-3.8e-17) == 0.0
    assert str(shown(-3.8e-17)) == "0.0", "no minus before nothing"
    assert shown(0.123456) == 0.1235
    assert shown(1234.56) == 1235.0
    assert shown(3.14159e-5) == 3.142e-5


def test_error_by_step_is_that_of_each_frame():
    first = episode(steps=2, size=(4, 4))
    other = episode(steps=2, size=(4, 4), images=np.full((3, 1, 4, 4, 3), 255, np.uint8))
    np.testing.assert_allclose(stage_pictures.psnr_each_step([first], [other]), np.zeros((1, 1, 2)), atol=1e-4)
    assert (stage_pictures.psnr_each_step([first], [first]) == stage_pictures.BLACK_DB).all()
