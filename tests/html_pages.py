"""Whether a page of HTML is sound by itself: elements closed in order, anchors that are there, nothing loaded."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = ("br", "img", "meta")
ENDS_A_PARAGRAPH = {
    "p",
    "div",
    "table",
    "ul",
    "ol",
    "dl",
    "h1",
    "h2",
    "h3",
    "figure",
    "details",
    "section",
    "nav",
    "header",
}
"""Before these a browser closes a <p> by itself."""


class Sound(HTMLParser):
    """Feed it a page; `problems` are what a browser would have to guess about, or would have to load."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.ids: Counter[str] = Counter()
        self.inner: list[str] = []
        """Links within the page."""
        self.outer: list[str] = []
        self.tags: Counter[str] = Counter()
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        self.problems += [f"<{name}> is not closed" for name in self._open]
        self.problems += [f"id {name!r} is there {count} times" for name, count in self.ids.items() if count > 1]
        self.problems += [f"nothing is called {name!r}" for name in self.inner if name not in self.ids]

    @property
    def text(self) -> str:
        """What a person reads, spaces as one."""
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag in ENDS_A_PARAGRAPH and "p" in self._open:
            self.problems.append(f"<{tag}> in a <p>")
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            said = value or ""
            if name == "id":
                self.ids[said] += 1
            if name == "href":
                (self.inner if said.startswith("#") else self.outer).append(said.removeprefix("#"))
            if name == "src" and not said.startswith("data:"):
                self.problems.append(f"<{tag}> loads {said}")
            if name.startswith("on"):
                self.problems.append(f"<{tag}> has {name}")
        if tag == "img" and not dict(attrs).get("alt"):
            self.problems.append("an <img> without words")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)


def sound(page: str) -> Sound:
    """The page, read; fails where it is not sound or has a script."""
    found = Sound(page)
    assert found.problems == []
    assert found.tags["script"] == 0
    return found
