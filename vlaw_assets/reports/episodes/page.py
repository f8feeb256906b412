"""A page of episodes as one HTML file, or as a folder with its clips beside it where one file would be large.

Script and style lie beside this file and are put into the page; nothing is loaded from elsewhere, and a policy in the
page forbids it. Texts of data are JSON that the script shows as text, never as HTML.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

from vlaw_assets.lake.durable import write_page
from vlaw_assets.reports.episodes.content import Content

HERE = Path(__file__).parent
MOST_INLINE = 20_000_000
"""Bytes of a page; clips of a larger one are files."""
SCRIPTS = ("page.js", "labelling.js", "opened.js")
"""In this order: one script."""
CLIPS = "clips"
INDEX = "index.html"
REMEDY = "Choose a file with --out."


def write(content: Content, path: Path) -> tuple[Path, int]:
    """Writes the page to `path`, FILE.html; where it is too large to FILE/index.html, clips beside it.

    Returns the page's path and the bytes of all that was written. VlawError where that cannot be written.
    """
    inline = inlined(content)
    if len(inline) <= MOST_INLINE:
        write_page(path, inline, remedy=REMEDY)
        return path, len(inline)
    folder = path.with_suffix("")
    names = [f"{CLIPS}/{hashlib.sha256(clip).hexdigest()[:16]}.mp4" for clip in content.clips]
    for name, clip in zip(names, content.clips, strict=True):
        write_page(folder / name, clip, remedy=REMEDY)
    linked = page(content.data, names)
    write_page(folder / INDEX, linked, remedy=REMEDY)
    path.unlink(missing_ok=True)  # an older, smaller page of that name
    return folder / INDEX, len(linked) + sum(map(len, content.clips))


def inlined(content: Content) -> str:
    """The page with its clips inside it."""
    return page(content.data, [f"data:video/mp4;base64,{base64.b64encode(clip).decode()}" for clip in content.clips])


def page(data: dict[str, Any], sources: list[str]) -> str:
    """The page as text. `sources`: of each clip its file, or 'data:video/mp4;base64,...'."""
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; media-src 'self' file: blob: "
        f"data:; img-src data:{'; connect-src ' + repr('self') if data['labelling'] else ''}"
    )
    title = html.escape(f"{data['title']} · vlaw watch")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}</style></head>\n'
        f'<body><main id="page"></main>\n'
        f'<script type="application/json" id="data">{in_script(data)}</script>\n'
        f'<script type="application/json" id="clips">{in_script(sources)}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def in_script(value: Any) -> str:
    """JSON that may stand inside a <script>: no character in it ends the element or begins a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: all others are escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
