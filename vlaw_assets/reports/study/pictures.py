"""Pictures of the report: kept until the report is complete, then written beside it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Pictures:
    """PNG bytes by name, and how the Markdown file refers to them."""

    folder: str
    """Relative to the report."""
    made: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, png: bytes, text: str) -> str:
        """Keeps a picture; returns the Markdown that shows it."""
        self.made[f"{name}.png"] = png
        return f"![{text}]({self.folder}/{name}.png)"
