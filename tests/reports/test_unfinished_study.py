"""The report of a study of which something is missing, or whose name begins another's."""

from __future__ import annotations

import pytest
from known_study import StudyLake
from report_text import cells, interval, section, vlaw

from vlaw_assets.lake import Lake
from vlaw_assets.query import connect
from vlaw_assets.query.questions import questions


@pytest.mark.slow
def test_an_unfinished_study_says_what_is_missing(tmp_path):
    k = StudyLake(Lake.open(tmp_path / "lake", create=True))
    k.define(
        [
            {"recipe": "vlaw", "seeds": [0, 1], "iterations": 2},
            {"recipe": "filtered_bc", "seeds": [0], "iterations": 1},
            {"recipe": "real_only_more", "seeds": [0], "iterations": 3, "until": "vlaw"},
        ]
    )
    found = vlaw(k, "study", "tiny", "--out", str(tmp_path / "out" / "none.md"))
    assert found.exit_code == 0, found.output
    assert "vlaw, iteration 1, seed 0, 1: not run" in (tmp_path / "out" / "none.md").read_text(), (
        "nothing is there but the definition"
    )
    policy = k.iterate("vlaw", 0, 1, "10001000")
    k.iterate("vlaw", 0, 2, "11001000", start=policy)
    policy = k.iterate("real_only_more", 0, 1, "10001000")
    k.iterate("real_only_more", 0, 2, "11101000", start=policy)
    assert vlaw(k, "study", "tiny", "--out", str(tmp_path / "part.md")).exit_code == 0
    text = (tmp_path / "part.md").read_text()
    assert "vlaw, iteration 2, seed 1: not run" in section(text, 2)
    assert "filtered_bc, iteration 1, seed 0: not run" in section(text, 2)
    assert cells(section(text, 2), "VLAW 2", "ours")[4] == interval(3, 8)
    assert "filtered BC 1 | ours" not in text, "no numbers for what was not run"
    assert cells(section(text, 6), "0", "2")[2:5] == ["8", f"{interval(4, 8)}", f"{interval(3, 8)}"]
    assert cells(section(text, 6), "0", "2")[5].startswith("+12.5 ["), "11101000 minus 11001000, on the same starts"
    assert cells(section(text, 6), "0", "2")[6] == "yes"
    assert "seed 0: matched after 8 real rollouts, VLAW used 8" in section(text, 6)
    assert "real_only_more, iteration 3" not in text, "it stopped because it matched"
    assert cells(section(text, 9), "1")[-1] == "not measured"
    assert "no judge was measured" in section(text, 4)
    assert section(text, 7).rstrip().endswith("Not there yet: no policy was both imagined with and evaluated.")


def test_a_study_whose_name_begins_another_s_is_told_from_it(tmp_path):
    k = StudyLake(Lake.open(tmp_path / "lake", create=True), "a")
    k.define([{"recipe": "vlaw", "seeds": [0], "iterations": 1}])
    k.iterate("vlaw", 0, 1, "10001000")
    other = StudyLake(k.lake, "a-b")
    other.define([{"recipe": "vlaw", "seeds": [0], "iterations": 1}])
    other.iterate("vlaw", 0, 1, "11111111")
    with connect(k.lake) as query:
        for study, successes in (("a", 2), ("a-b", 8)):
            sql = next(q.sql for q in questions() if q.name == "study_success")
            rows = query.table(sql, {"study": study, "task": "all", "noise": "reported", "recipe": "vlaw"}).to_pylist()
            assert [(row["seed"], row["successes"]) for row in rows] == [(None, successes), (0, successes)]
