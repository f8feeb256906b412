"""Intervals against published values and exact coverage, video metrics against their formula, pictures."""

from __future__ import annotations

import base64
import io
import itertools
import math

import numpy as np
import pytest
from factories import episode
from PIL import Image

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.metrics.stats import mcnemar, newcombe, paired_difference, t_interval, wilson
from vlaw_models.metrics.video import per_camera, psnr, psnr_per_frame, ssim
from vlaw_models.pictures import BORDER, CAPTION, GAP, GREEN, GREY, RED, caption, contact_sheet, md_image, png_bytes


def outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.array([1] * (both + only_a) + [0] * (only_b + neither), bool)
    b = np.array([1] * both + [0] * only_a + [1] * only_b + [0] * neither, bool)
    return a, b


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombe_1998_table_1(k, n, low, high):
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize(
    ("k1", "n1", "k2", "n2", "low", "high"),
    [(56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090), (10, 10, 0, 10, 0.6075, 1.0)],
)
def test_newcombe_gives_its_published_examples(k1, n1, k2, n2, low, high):
    diff = newcombe(k1, n1, k2, n2)
    assert diff.diff == pytest.approx(k1 / n1 - k2 / n2)
    assert (diff.low, diff.high) == pytest.approx((low, high), abs=5e-5)
    back = newcombe(k2, n2, k1, n1)
    assert (back.low, back.high) == pytest.approx((-high, -low), abs=5e-5)


def test_t_interval_of_seeds_by_hand():
    half = 4.302653 / math.sqrt(3)  # the 97.5 % point of t with 2 degrees of freedom, standard deviation 1
    assert t_interval([1, 2, 3]) == pytest.approx((2, 2 - half, 2 + half), abs=1e-6)
    half = 12.706205 * 0.125  # one degree of freedom: .25 / sqrt(2) / sqrt(2)
    assert t_interval(np.array([0.5, 0.25])) == pytest.approx((0.375, 0.375 - half, 0.375 + half), abs=1e-6)
    assert t_interval([0.5, 0.25], alpha=0.5) == pytest.approx((0.375, 0.25, 0.5)), "the quartiles are at 1"
    assert t_interval([0.1] * 8) == pytest.approx((0.1, 0.1, 0.1))


@pytest.mark.parametrize("values", [[], [0.3], [0.3, math.nan], [[0.1, 0.2]]])
def test_no_interval_over_fewer_than_two_seeds(values):
    with pytest.raises(VlawError, match="no interval over"):
        t_interval(values)


def test_paired_interval_covers_95_percent_exactly_counted():
    n, cells = 24, (0.35, 0.25, 0.10, 0.30)
    truth, covered, total = cells[1] - cells[2], 0.0, 0.0
    for both, only_a, only_b in itertools.product(range(n + 1), repeat=3):
        neither = n - both - only_a - only_b
        if neither < 0:
            continue
        counts = (both, only_a, only_b, neither)
        chance = math.factorial(n) * math.prod(p**c / math.factorial(c) for p, c in zip(cells, counts, strict=True))
        interval = paired_difference(*outcomes(*counts))
        total += chance
        covered += chance * (interval.low <= truth <= interval.high)
    assert total == pytest.approx(1.0)
    assert 0.94 < covered < 0.985


def test_pairing_pays_when_outcomes_agree():
    paired = paired_difference(*outcomes(40, 12, 3, 45))
    independent = newcombe(52, 100, 43, 100)
    assert paired.diff == pytest.approx(0.09)
    assert paired.high - paired.low < 0.75 * (independent.high - independent.low)
    assert paired.low > 0 > independent.low
    a, b = outcomes(40, 12, 3, 45)
    flipped = paired_difference(b, a)
    assert flipped == pytest.approx((-paired.diff, -paired.high, -paired.low))
    assert paired_difference(a, a).diff == 0


def test_mcnemar_is_the_exact_binomial_test():
    assert mcnemar(*outcomes(5, 8, 1, 5)) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(*outcomes(5, 0, 0, 5)) == 1.0
    assert mcnemar(*outcomes(0, 3, 3, 0)) == 1.0
    assert 0 <= mcnemar(*outcomes(0, 1500, 100, 0)) < 1e-100


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: wilson(-1, 4),
        lambda: newcombe(1, 2, 1, 0),
        lambda: paired_difference(np.ones(3), np.ones(4)),
        lambda: paired_difference(np.ones(0), np.ones(0)),
        lambda: mcnemar(np.array([0.0, np.nan]), np.ones(2)),
    ],
)
def test_counts_that_make_no_sense(call):
    with pytest.raises(VlawError, match="remedy"):
        call()


def video(seed: int = 0, length: int = 5, size: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, size, size, 3), dtype=np.uint8)


def test_psnr_by_hand():
    a = np.full((2, 12, 12, 3), 100, np.uint8)
    b = a.copy()
    b[0] += 10
    assert psnr_per_frame(a, b) == pytest.approx([20 * math.log10(25.5), 100.0])
    assert psnr(a, b) == pytest.approx((20 * math.log10(25.5) + 100) / 2)


def test_ssim_agrees_with_its_formula_window_by_window():
    a = video(0, length=2, size=14)
    b = np.clip(a.astype(int) + np.random.default_rng(1).integers(-40, 40, a.shape), 0, 255).astype(np.uint8)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    scores = []
    wide = [np.pad(v.astype(float), ((0, 0), (5, 5), (5, 5), (0, 0)), mode="reflect") for v in (a, b)]
    for frame, row, column, channel in itertools.product(range(2), range(14), range(14), range(3)):
        x, y = (v[frame, row : row + 11, column : column + 11, channel] for v in wide)
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy, cov = (
            (window * p * q).sum() - s * t for p, q, s, t in ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my))
        )
        scores.append((2 * mx * my + 6.5025) * (2 * cov + 58.5225) / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225)))
    assert ssim(a, b) == pytest.approx(np.mean(scores), abs=1e-5)


def test_ssim_of_the_same_and_of_unrelated_videos():
    assert ssim(video(0), video(0)) == pytest.approx(1.0)
    assert abs(ssim(video(0), video(1))) < 0.1


def test_per_camera_leaves_the_given_frame_out():
    recorded = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16, 3), dtype=np.uint8)
    predicted = recorded.copy()
    predicted[0] = 0
    predicted[1:, 2] = 255 - predicted[1:, 2]
    result = per_camera(recorded, predicted, ("exterior_1", "exterior_2", "wrist"))
    assert list(result) == ["exterior_1", "exterior_2", "wrist"]
    assert result["exterior_1"]["psnr"] == 100.0
    assert result["wrist"]["psnr"] < 15


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (video(length=5), video(length=4), "5 and 4 frames"),
        (video(size=24), video(size=16), "24x24 and 16x16"),
        (video(length=1), video(length=1), "fewer than 2"),
        (video(), np.where(video() > 250, np.nan, video().astype(float)), "NaN"),
        (video(), video() * 2.0, "pixels from"),
        (video()[0], video()[0], "shape"),
    ],
)
def test_videos_that_do_not_compare(a, b, words):
    for metric in (psnr, ssim):
        with pytest.raises(VlawError, match=words):
            metric(a, b)


def test_ssim_needs_its_window():
    with pytest.raises(VlawError, match="10x10"):
        ssim(video(size=10), video(size=10))


def shown_episode(success: bool | None, *, length: int = 6, event: str | None = None) -> Episode:
    return episode(success=success, event=event, steps=length, cameras=3, size=(16, 16), dims=(5, 5), noise=length)


def test_contact_sheet_shows_first_and_last_frames_and_outcomes(tmp_path):
    shown = [shown_episode(True), shown_episode(False, event="toppled", length=2), shown_episode(None)]
    sheet = contact_sheet(shown, tmp_path / "new" / "sheet.png", columns=4, scale=2)
    pixels = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    np.testing.assert_array_equal(pixels, np.asarray(sheet))
    cell_height = 32 + 2 * BORDER
    for row, colour in enumerate((GREEN, RED, GREY)):
        top = GAP + row * (cell_height + CAPTION + GAP) + CAPTION
        assert tuple(pixels[top, GAP]) == colour
        first = pixels[top + BORDER : top + BORDER + 32 : 2, GAP + BORDER : GAP + BORDER + 96 : 2]
        np.testing.assert_array_equal(first, np.concatenate(list(shown[row].images[0]), axis=1))
    left = GAP + 3 * (96 + 2 * BORDER + GAP) + BORDER
    last = pixels[GAP + CAPTION + BORDER : GAP + CAPTION + BORDER + 32 : 2, left : left + 96 : 2]
    np.testing.assert_array_equal(last, np.concatenate(list(shown[0].images[-1]), axis=1))
    assert "failure (toppled)" in caption(shown[1])
    with pytest.raises(VlawError, match="0 episodes"):
        contact_sheet([])


def test_png_and_markdown_round_trip():
    sheet = contact_sheet([shown_episode(True)], columns=2, scale=1)
    assert png_bytes(sheet) == png_bytes(sheet)
    head, _, data = md_image(png_bytes(sheet)).partition("base64,")
    assert head == "![contact sheet](data:image/png;"
    picture = Image.open(io.BytesIO(base64.b64decode(data.removesuffix(")"))))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(sheet))
