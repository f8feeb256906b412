"""Pages of episodes in a browser: clips play, filters filter, an opened episode is scrubbed, nothing complains."""

from __future__ import annotations

import pytest
from asking import at
from browser import tab
from factories import commit, episode

from vlaw_assets.lake import Lake

HOSTILE = "<img src=x onerror='window.broken = 1'></script>"


@pytest.mark.slow
@pytest.mark.browser
def test_clips_play_filters_filter_and_nothing_complains(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake")
    options = {"steps": 9, "cameras": ("left", "right"), "size": (16, 16), "control_hz": 5.0}
    found = [
        episode("stack", 1, success=True, noise=1, **options),
        episode("stack", 2, success=False, event="toppled", noise=2, **options),
        episode("book", 3, success=False, instruction=HOSTILE, noise=3, **options),
    ]
    ids: list[str] = []
    real = commit(lake, "real", write=lambda draft: ids.extend(draft.write_episodes(found, purpose="rollout")))
    dream = episode("stack", 4, success=None, start=ids[1], noise=4, **options)
    commit(
        lake,
        "imagined",
        parents={"starts": real},
        rows=("starts",),
        write=lambda draft: ids.extend(draft.write_episodes([dream], purpose="imagined")),
    )
    vlaw = at(monkeypatch, tmp_path, {"VLAW_LAKE": str(lake.paths.root)})
    vlaw("watch", *ids[:3], "--out", "page.html", code=0)
    address = (tmp_path / "page.html").as_uri()
    with tab(tmp_path / "profile") as page:
        page.open(address)
        page.until("[...document.querySelectorAll('article video')].filter(v => v.readyState >= 2).length === 3")
        size = (
            "document.querySelector('article video').videoWidth / document.querySelector('article video').videoHeight"
        )
        assert page.run(size) == 2, "both cameras, side by side"
        assert "3 of 3 · 1 success, 2 failure" in page.run("document.getElementById('count').textContent")

        page.run("document.getElementById('play-all').click()")
        page.until("[...document.querySelectorAll('article video')].every(v => !v.paused && v.currentTime > 0.1)")

        chip = "document.querySelector('[data-field={}][data-value={}]')"
        page.run(chip.format("outcome", "failure") + ".click()")
        page.run(chip.format("task", "stack") + ".click()")
        badges = "[...document.querySelectorAll('article .badge')].map(b => b.textContent)"
        assert page.run(badges) == ["failure: toppled"]
        page.run(chip.format("outcome", "failure") + ".click()")
        assert page.run("document.querySelectorAll('article').length") == 2
        page.run(chip.format("task", "stack") + ".click()")
        assert page.run("document.querySelectorAll('article').length") == 3

        page.open(f"{address}#{ids[1]}")
        shown = "[...document.querySelectorAll('.opened video')]"
        page.until(f"{shown}.filter(v => v.readyState >= 2).length === 2")
        assert page.run("document.querySelector('.opened .facts').textContent.includes('toppled')")
        assert page.run("document.querySelectorAll('.opened .curve svg polyline.beside').length") == 2
        page.run("(s => { s.value = 6; s.dispatchEvent(new Event('input')) })(document.getElementById('scrubber'))")
        page.until(f"{shown}.every(v => !v.seeking && Math.abs(v.currentTime - 6.5 / 5) < 0.01)")
        page.run("document.getElementById('play').click()")
        page.until("document.querySelector('.opened output').textContent.includes('step 9 of 9')")
        assert page.run("document.getElementById('play').textContent") == "▶", "it stops at the end"
        page.run("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown', bubbles: true }))")
        page.until("document.querySelector('.opened .facts').textContent.includes('onerror')")
        assert page.run("document.querySelectorAll('img').length + (window.broken || 0)") == 0
        page.run("document.getElementById('close').click()")
        assert page.run("document.querySelector('.opened').hidden")
        assert page.messages == []
