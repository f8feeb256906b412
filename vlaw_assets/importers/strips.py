"""Film strips of a recording for its page: one episode that nothing was found of, and one for each kind of finding."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlaw_assets.importers.findings import Finding

if TYPE_CHECKING:
    import pyarrow as pa

    from vlaw_models.film import Strip

TITLE = "what was recorded"
CLEAN = "nothing found"
MOST = 12
"""Strips of one picture."""
MOMENTS = 8


class Strips:
    """Looks at encoded episodes (lake/encoded.py) on their way, and keeps a few moments of those it shows."""

    def __init__(self, findings: Sequence[Finding]):
        self._rules: dict[int, list[str]] = {}
        for finding in findings:
            self._rules.setdefault(finding.episode, []).append(finding.rule)
        self._shown: dict[str, Strip] = {}
        """By rule."""
        self.lengths: list[tuple[int, int]] = []
        """Of every episode that has passed: its number, and how many frames it has."""

    def passing(self, parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same parts."""
        for part in parts:
            self.lengths += zip(part["seed"].to_pylist(), part["num_frames"].to_pylist(), strict=True)
            for place, number in enumerate(part["seed"].to_pylist()):
                rules = self._rules.get(number, [CLEAN])
                fresh = [rule for rule in rules if rule not in self._shown]
                if fresh and len(self._shown) < MOST:
                    self._shown |= dict.fromkeys(fresh[:1], _strip(part.slice(place, 1), rules))
            yield part

    def picture(self) -> bytes | None:
        """As PNG, the episode that nothing was found of first; None where there is no frame."""
        from vlaw_models.film import film
        from vlaw_models.pictures import png_bytes

        first = sorted(self._shown, key=lambda rule: rule != CLEAN)
        rows = [self._shown[rule] for rule in first if self._shown[rule].frames]
        return png_bytes(film(rows)) if rows else None


def _strip(row: pa.Table, rules: Sequence[str]) -> Strip:
    from PIL import Image

    from vlaw_models.film import Strip, even

    (episode,) = row.select(["seed", "task", "success", "cameras", "frames"]).to_pylist()
    of_first = [frame["image"] for frame in episode["frames"] if frame["camera"] == episode["cameras"][0]]
    moments = [np.asarray(Image.open(io.BytesIO(of_first[at])).convert("RGB")) for at in even(len(of_first), MOMENTS)]
    return Strip(moments, [", ".join(rules), f"episode {episode['seed']}", episode["task"]], episode["success"])
