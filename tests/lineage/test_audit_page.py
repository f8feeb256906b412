"""The page of an audit: self-contained, every box leads to its row, and no text of the lake breaks out of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from small_loop import commit, episodes
from smoke_place import UP_TO_POLICY

from vlaw_assets.lineage.closure import audit_of
from vlaw_assets.lineage.layout import levels
from vlaw_assets.reports.audit_page import page
from vlaw_assets.reports.audit_picture import picture


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.targets, self.tags, self.boxes, self.edges, self.open = [], [], set(), [], 0, []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values["href"]] if "href" in values else []
        if values.get("class") == "box":
            self.boxes.append(tuple(float(values[key]) for key in ("x", "y", "width", "height")))
        self.edges += values.get("class") == "edge"


def test_the_page_is_self_contained_and_every_box_leads_to_its_row(vlaw, made, tmp_path):
    lake, (_, _, second) = made
    assert vlaw("audit", "policy", "vlaw", "2", "--html", str(tmp_path / "new" / "page.html")).exit_code == 0
    text = (tmp_path / "new" / "page.html").read_text()
    found = audit_of(lake, second["policy"])
    links = Links()
    links.feed(text)
    artifacts = {item["artifact"] for item in found["artifacts"]}
    assert set(links.targets) == {f"#{name}" for name in artifacts}
    assert artifacts <= set(links.ids)
    assert "script" not in links.tags
    assert not re.search(
        r'(?:src|href|url)\s*[=(]\s*"?(?!#)[a-z]+:', text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    )
    assert links.edges == sum(len(item["parents"]) for item in found["artifacts"])
    for item in found["artifacts"]:
        for digest in ("content", "code", "recipe", "parents"):
            assert item[f"{digest}_sha256"] in text
    assert vlaw("audit", "policy", "vlaw", "2", "--html", "/proc/page.html").exit_code == 2


def test_boxes_do_not_overlap_and_lie_inside_the_picture(made):
    """Also with two versions of one asset in one iteration, with two experiments, and for a single box."""
    lake, (base, first, second) = made
    again = commit(
        lake,
        "real_rollouts",
        "vlaw|02",
        "real_rollouts",
        {"policy": first["policy"]},
        lambda draft: draft.write_episodes(episodes(1, seed=77), purpose="rollout"),
        recipe={"again": True},
    )
    mixed = commit(
        lake,
        "training_set",
        "other|01",
        "training_set",
        {"a": again, "b": second["real_rollouts"]},
        lambda draft: draft.write_members([]),
    )
    for ref in (second["policy"], mixed, base["autoencoder"]):
        found = audit_of(lake, ref)
        svg = picture(found)
        links = Links()
        links.feed(svg)
        assert len(links.boxes) == len(found["artifacts"])
        width, height = (int(re.search(rf' {name}="(\d+)"', svg)[1]) for name in ("width", "height"))
        for number, (x, y, w, h) in enumerate(links.boxes):
            assert x >= 0
            assert x + w <= width
            assert y + h <= height
            assert all(abs(x - x2) >= w or abs(y - y2) >= h for x2, y2, _, _ in links.boxes[:number])
    assert "other, iteration 01" in svg or "other, iteration 01" in picture(audit_of(lake, mixed))


def test_the_page_names_the_command_that_shows_the_episodes(made):
    lake, (base, first, _) = made
    for ref, command in ((first["policy"], "vlaw watch policy vlaw 01"), (base["autoencoder"], None)):
        text = page(audit_of(lake, ref))
        assert ("watch its episodes" in text) == (command is not None)
        assert command is None or f"<code>{command}</code>" in text


def test_text_from_the_lake_cannot_break_out_of_the_page(made):
    lake, (_, first, _) = made
    found = audit_of(lake, first["policy"])
    found["artifacts"][0]["run_id"] = found["run_id"] = "<script>alert(1)</script>"
    found["quarantine"] = [{"episode_id": "e", "why": "<img src=x>", "by": "b", "at": "2026", "in_closure": True}]
    text = page(found)
    assert "<script" not in text
    assert "<img" not in text


def test_levels_come_in_the_order_of_the_loop(made):
    lake, (_, _, second) = made
    order = levels(audit_of(lake, second["policy"])["artifacts"])
    assert [key for key, _ in order] == ["", "vlaw|01", "vlaw|02"]
    assert [item["asset"] for item in order[1][1]] == [asset for asset in UP_TO_POLICY if asset != "loop_state"]
