"""The report of an iteration: one sound page, the same bytes from the same lake, and the same with the asset."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from asking import at
from browser import tab
from factories import episode
from html_pages import sound
from known_lake import KnownLake
from PIL import Image
from smoke_place import smoke_place

from vlaw_assets.lake import Lake, pictures
from vlaw_assets.reports.iteration import headline, imagined, judge, over_iterations, same_starts
from vlaw_assets.reports.iteration.frames import moments, of_every_task, rows_of_frames
from vlaw_assets.reports.iteration.page import build
from vlaw_assets.reports.markup import Html, joined, table, tag, text
from vlaw_assets.reports.success import Change, Trials, rate

HOSTILE = "</style><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>\x1b[2J"
SECTIONS = ("success", "starts", "judge", "imagined", "world", "coverage", "data", "more")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture(scope="module")
def page(place):
    """As the asset keeps it."""
    ((title, digest),) = pictures.pages(place.lake.ledger.require("iteration_report", "smoke|01")).items()
    assert title == "the report"
    return pictures.path_of(place.lake.paths, digest, pictures.PAGE).read_text()


# ---- words and pieces


def trials(won):
    """On as many starts as there are letters: w is won."""
    return Trials({("stack", seed): one == "w" for seed, one in enumerate(won)}, 0)


@pytest.mark.parametrize(
    ("before", "after", "state", "says"),
    [
        ("l" * 30 + "w" * 10, "w" * 30 + "l" * 10, "better", "0.25 → 0.75 on the same 40 starts, +0.50"),
        ("w" * 30 + "l" * 10, "l" * 30 + "w" * 10, "worse", "0.75 → 0.25 on the same 40 starts, −0.50"),
        ("wl" * 20, "lw" * 20, "undecided", "0.50 → 0.50 on the same 40 starts, +0.00"),
        ("w" * 20, "w" * 10, "undecided", "1.00 → 1.00 on the same 10 starts"),
        (None, "wl", "alone", "success 0.50 [0.09, 0.91] on 2 starts; there is nothing to compare it with"),
        ("wl", "", "alone", "has not been evaluated"),
    ],
)
def test_the_headline_says_what_the_interval_says(before, after, state, says):
    found = headline.headline("vlaw, iteration 02", trials(before) if before else None, trials(after))
    assert found.state == state
    assert found.sentence.startswith("vlaw, iteration 02: ")
    assert says in found.sentence
    assert ("beyond chance" in found.sentence) == (state in ("better", "worse"))
    assert ("may be chance" in found.sentence) == (state == "undecided")


def test_a_bound_is_never_rounded_onto_zero():
    assert headline.signed(Change(0.1, 0.004, 0.2, 9)) == "+0.100 [+0.004, +0.200]"
    assert headline.signed(Change(-0.03, -0.08, 0.02, 9)) == "−0.03 [−0.08, +0.02]"


def test_texts_are_escaped_and_markup_is_not():
    assert text(HOSTILE).startswith("&lt;/style&gt;&lt;script&gt;")
    assert "\x1b" not in text(HOSTILE)
    assert text(Html("<b>x</b>")) == "<b>x</b>"
    assert tag("p", "<", Html("<i>y</i>"), cls='a"b', title="<") == '<p class="a&quot;b" title="&lt;">&lt;<i>y</i></p>'
    assert joined(["<", tag("br")], "&") == "&lt;&amp;<br>"
    assert "<td>&lt;b&gt;</td>" in table([["<"], ["<b>"]])


def test_clips_are_chosen_by_the_stated_rule():
    groups = {
        "both won": [("stack", 1)],
        "only before won": [],
        "only after won": [("stack", 3), ("stack", 2), ("book", 9)],
        "both lost": [("book", 4), ("erase", 8)],
    }
    keys = {start: (("a", str(start)), ("b", str(start))) for listed in groups.values() for start in listed}
    found = same_starts.Pairs(
        ("before", "after"),
        {name: [keys[start] for start in listed] for name, listed in groups.items()},
        Change(0, -1, 1, 6),
        {pair: start for start, pair in keys.items()},
        0,
    )
    chosen = [(name, found.starts[pair]) for name, pair in same_starts.choose(found)]
    assert chosen == [
        ("only after won", ("stack", 2)),
        ("only after won", ("book", 9)),
        ("only after won", ("stack", 3)),
        ("both lost", ("erase", 8)),
    ], "other tasks first, then the smallest seed; no start was won only before, so the next kind stands for it"


def test_a_clip_has_both_and_sides_of_whole_blocks():
    first, second = np.full((3, 2, 64, 64, 3), 10, np.uint8), np.full((5, 2, 64, 64, 3), 200, np.uint8)
    clip = same_starts.together(first, second)
    assert clip.shape[0] == 5
    assert clip.shape[1] % 16 == clip.shape[2] % 16 == 0
    assert (clip[-1, 0, 0, 0], clip[-1, -1, 0, 0]) == (10, 200), "the shorter one stands still"
    odd = same_starts.together(np.zeros((1, 1, 90, 50, 3), np.uint8), np.zeros((1, 1, 90, 50, 3), np.uint8))
    assert odd.shape[1] % 16 == odd.shape[2] % 16 == 0


def test_strips_of_frames_that_differ_or_are_missing():
    small, large = np.zeros((3, 1, 8, 8, 3), np.uint8), np.zeros((9, 1, 16, 16, 3), np.uint8)
    assert rows_of_frames([moments(None), moments(small[:0])], "x") == '<p class="note">No frames were kept.</p>'
    drawn = rows_of_frames([moments(small), moments(None), moments(large)], "x")
    file = base64.b64decode(re.search(r"image/jpeg;base64,([^\"]+)", drawn)[1])
    assert Image.open(io.BytesIO(file)).size == (8 * 8 + 7 * 2, 2 * 8 + 2), "all in the size of the first"


def test_counts_of_the_judge_and_of_imagination():
    def judged(task, score, won):
        return judge.Judged({"task": task, "success": won}, score)

    found = [judged("a", 0.9, True), judged("a", 0.9, False), judged("b", 0.1, True), judged("b", 0.8, False)]
    header, *rows = judge.rows(found, 0.8)
    assert header[4:6] == ["wrongly accepted", "wrongly refused"]
    assert rows[-1] == ["all", "4", "2", "2", "1", "1", "0.50", "0.50"], "alpha itself is not accepted"

    def dream(task, score, truth):
        return imagined.Imagined({"task": task}, score, truth)

    dreams = [dream("a", 0.9, True), dream("a", 0.9, False), dream("b", 0.1, True), dream("b", 0.1, None)]
    rows = imagined.rows(dreams, 0.8, {"all": (1, 4)})
    assert rows[-1] == ["all", "4", "2", "2", "1", "0.50", "0.50", "0.50", "0.67", "0.25"]
    unknown = imagined.rows([dream("a", 0.9, None)], 0.8, {})
    assert unknown[1:] == [["a", "1", "1", "", "", "", "", "1.00", "", ""]]
    assert [one.task for one in of_every_task(dreams, 2)] == ["a", "b"]


def test_lines_and_their_iterations():
    columns = {"before 02": trials("wl"), "after 02": trials("ww"), "after 03": trials("ll")}
    assert {at: one.value for at, one in over_iterations.line_of("x", columns).points.items()} == {1: 0.5, 2: 1, 3: 0}
    lines = [over_iterations.Line(name, {0: rate(1, 4), 1: rate(2, 4)}) for name in ("a$x$", "b", "c")]
    assert over_iterations.curves(lines[:1], lines[1:], 1).startswith(b"\x89PNG")


# ---- the page


def test_the_page_is_sound_and_has_every_section(page, place):
    found = sound(page)
    assert [name for name in found.inner if name in SECTIONS][: len(SECTIONS)] == list(SECTIONS), "the contents"
    assert set(SECTIONS) <= set(found.ids)
    assert found.tags["video"] >= 1
    assert found.tags["svg"] == 1
    assert len(page) < 4_000_000
    assert found.outer == []
    for asset in ("policy", "policy_evaluation", "imagined_rollouts", "reward_model_metrics", "world_model_metrics"):
        assert found.ids[place.lake.ledger.require(asset, "smoke|01").artifact_id] == 1, "each has its row"
    assert re.search(r"smoke, iteration 01: success .* on the same 4 starts", found.text)


@pytest.mark.slow
def test_the_asset_keeps_what_the_command_writes(page, place, monkeypatch, tmp_path):
    report = place.lake.ledger.require("iteration_report", "smoke|01")
    vlaw = at(monkeypatch, tmp_path, place.environment())
    before = place.lake.ledger.sequence(report.artifact_id) - 1
    vlaw("report", "smoke", "1", "--out", "page.html", "--as-of", f"#{before}", code=0)
    cut = "<footer>"  # how the lake was looked at is said in other words
    assert (tmp_path / "page.html").read_text().partition(cut)[0] == page.partition(cut)[0]


def test_the_asset_page_in_dagster_leads_to_it(place):
    from vlaw_assets.pipeline.page import page_of

    report = place.lake.ledger.require("iteration_report", "smoke|01")
    said = page_of(place.lake, report, reused=False)["the report"].value
    digest = pictures.pages(report)["the report"]
    assert f"(/vlaw/pictures/{digest}.html)" in said
    assert "not_drawn" not in report.metrics
    titles = list(page_of(place.lake, report, reused=False))
    assert titles.index("the report") < titles.index("success over iterations"), "seen without scrolling"


# ---- two experiments, and hostile texts


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """'one' and 'two', an iteration each, evaluated on the same starts of a task with a hostile name."""
    k = KnownLake(Lake.open(tmp_path_factory.mktemp("two") / "lake"))
    k.make("base_policy", {}, checkpoint="base", kind="policy")
    for name, won in (("one", (True, True, False)), ("two", (False, True, False))):
        key = f"{name}|01"
        recipe = {"learning_rate": len(name + key), "name": HOSTILE, "share": 0.5 if name == "one" else 0.25}
        k.make(f"policy {name}", {"start": "base_policy"}, partition=key, checkpoint=name, recipe=recipe)
        for asset, policy, outcomes in (
            ("start_evaluation", "base_policy", (True, False, False)),
            ("policy_evaluation", f"policy {name}", won),
        ):
            found = [
                episode(HOSTILE, seed, success=one, event="" if one else HOSTILE, instruction=HOSTILE, steps=2)
                for seed, one in enumerate(outcomes)
            ]
            k.make(
                f"{asset} {name}",
                {"policy": policy},
                k.episodes(name + asset, "evaluation", found, policy=k.refs[policy].content_digest),
                partition=key,
                kind="evaluation",
            )
    return k


def test_texts_of_data_are_texts(two):
    page = build(two.lake, "one", 1)
    found = sound(page)
    assert found.tags["video"] == 3, "every start that there is"
    assert "</style><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>?[2J" in found.text
    assert "\x1b" not in page
    assert "judge" not in found.ids, "what was not made has no section"


def test_a_page_of_an_episode_that_is_there_is_linked(two, tmp_path):
    name = f"watch_{two.ids['onepolicy_evaluation0']}.html"
    (tmp_path / name).write_text("")
    page = build(two.lake, "one", 1, folder=tmp_path)
    assert sound(page).outer == [name]
    assert build(two.lake, "one", 1, folder=tmp_path) == page, "the same lake, the same bytes"


def test_another_experiment_beside_it(two, tmp_path, monkeypatch):
    vlaw = at(monkeypatch, tmp_path, {"VLAW_LAKE": str(two.lake.paths.root)})
    opened = []
    monkeypatch.setattr("vlaw_assets.cli.report.open_browser", opened.append)
    file = tmp_path / "page.html"
    said = vlaw("report", "one", "1", "--compare", "two/01", "--out", str(file), "--open", code=0).stdout
    assert "page.html" in said
    assert opened == [file.as_uri()]
    found = sound(file.read_text())
    assert "Against two, iteration 01" in found.text
    assert "on 3 shared starts" in found.text
    assert "policy.share 0.25 0.5" in found.text, "what differs"
    assert found.ids[two.refs["policy two"].artifact_id] == 1
    assert "against" not in sound(build(two.lake, "one", 1)).ids


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("one", "1", "--compare", "one/01"), "held against itself"),
        (("one", "1", "--compare", "two"), "is not an iteration"),
        (("one", "1", "--compare", "nobody/01"), "there is no experiment 'nobody'"),
        (("one", "1", "--compare", "two/02"), "not in the ledger"),
        (("study", "claims", "--open"), "are for iterations"),
        (("one", "x"), "is not an iteration"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(two, tmp_path, monkeypatch, words, says):
    vlaw = at(monkeypatch, tmp_path, {"VLAW_LAKE": str(two.lake.paths.root)})
    result = vlaw("report", *words, code=2)
    assert says in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.browser
def test_in_a_browser_clips_move_links_open_what_is_folded_and_print_leaves_it_out(two, tmp_path):
    (tmp_path / "page.html").write_text(build(two.lake, "one", 1))
    with tab(tmp_path / "profile") as page:
        page.open((tmp_path / "page.html").as_uri())
        page.until("[...document.querySelectorAll('video')].every(v => !v.paused && v.currentTime > 0)")
        page.run("document.querySelector('svg a').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
        there = "document.getElementById(location.hash.slice(1))"
        page.until(f"location.hash && {there}.closest('details').open")
        assert page.run("window.broken") is None
        page.call("Emulation.setEmulatedMedia", media="print")
        shown = "getComputedStyle(document.querySelector('{}')).display"
        assert [page.run(shown.format(name)) for name in ("video", "#more", ".on-paper")] == ["none", "none", "block"]
        assert page.messages == []
