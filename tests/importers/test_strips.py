"""A recording's page: film strips of one clean episode and of each kind of finding, and the findings counted."""

from __future__ import annotations

import dataclasses
import io

from factories import commit, episode
from PIL import Image

from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.strips import Strips
from vlaw_assets.lake import Lake
from vlaw_assets.lake.encoded import encode_episode
from vlaw_assets.pipeline.page import page_of

HOSTILE = "<script>alert(1)</script> | [x](javascript:y) \x1b[31m\nrow"


def encoded(numbers):
    for number in numbers:
        found = episode("stack", number, success=bool(number % 2), cameras=2, size=(16, 24))
        yield encode_episode(found, purpose="rollout", label_source="recorded", where="test")


def test_one_strip_for_each_kind_of_finding(monkeypatch):
    findings = [
        Finding("late", "x", "keep", 1),
        Finding("late", "x", "keep", 2),
        Finding("dark", "x", "keep", 2),
        Finding("gone", "x", "excluded", 9),
        Finding("dataset", "x", "keep"),
    ]
    strips = Strips(findings)
    parts = list(strips.passing(encoded([0, 1, 2, 3])))
    assert [part["seed"].to_pylist() for part in parts] == [[0], [1], [2], [3]]
    assert strips.lengths == [(number, part["num_frames"][0].as_py()) for number, part in enumerate(parts)]
    drawn = {}
    monkeypatch.setattr(
        "vlaw_models.film.film", lambda rows: drawn.setdefault("rows", rows) and Image.new("RGB", (9, 9))
    )
    assert Image.open(io.BytesIO(strips.picture())).size == (9, 9)
    assert [(row.words[0], row.words[1], row.success) for row in drawn["rows"]] == [
        ("nothing found", "episode 0", False),
        ("late", "episode 1", True),
        ("late, dark", "episode 2", False),
    ]
    assert all(frame.shape == (16, 24, 3) for row in drawn["rows"] for frame in row.frames)


def test_nothing_to_see():
    strips = Strips([])
    blind = dataclasses.replace(episode("stack", 1), images=episode("stack", 1).images[:0])
    list(strips.passing([encode_episode(blind, purpose="rollout", where="test")]))
    assert strips.picture() is None


def test_findings_are_counted_on_the_page_and_texts_are_shown_as_they_are(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    said = [(0, HOSTILE, "keep"), (0, "b", "keep"), (1, "c", "keep")]

    def write(draft):
        draft.write_episodes([episode("stack", 0), episode("stack", 1)], purpose="rollout", label_source="recorded")
        draft.write_findings(
            [
                {"episode": n, "row": 4, "rule": "late", "value": text, "decision": decision}
                for n, text, decision in said
            ]
        )
        draft.set_metrics({"judged": 1, "excluded": 3, "understood": {"camera wrist": HOSTILE}})

    ref = commit(lake, "recorded_episodes", "cups|00", write=write)
    page = {title: str(getattr(value, "value", value)) for title, value in page_of(lake, ref, reused=False).items()}
    found = page["what was found"]
    assert found.startswith("1 kept, 1 for world models alone, 3 excluded")
    assert "| late | keep | 2 | 3 | 0 |" in found
    for text in (found, page["how the recording was understood"]):
        assert not [part for part in ("<script>", "\x1b", "[x](") if part in text]
    assert "camera wrist" in page["how the recording was understood"]
