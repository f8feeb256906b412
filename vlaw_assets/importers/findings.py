"""What an import found out about one episode, or about the dataset, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlaw_assets.lake.rules import DECISIONS

Decision = Literal["keep", "world_model_only", "excluded"]
"""One of the lake's DECISIONS. 'keep': imported as it is; 'world_model_only': imported, but nothing learns what to do
from it (no instruction, no label); 'excluded': not imported."""
DATASET = -1
"""Number of the episode of a finding about the dataset as a whole."""
MOST_TEXT = 1000
"""Characters of a value that are kept: it may quote what a stranger wrote."""


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed while a recording was read."""

    rule: str
    """Short name of the rule, in snake case: 'row_spacing'."""
    value: str
    """What was found, in full: with the file and the row where that is known."""
    decision: Decision
    episode: int = DATASET
    """Index in the recording, as in `Found.number`; DATASET for the dataset as a whole."""
    row: int | None = None
    """Row within the episode, from 0; None where it is about no single one."""

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ValueError(f"decision {self.decision!r} is none of {', '.join(DECISIONS)}")
        if len(self.value) > MOST_TEXT:
            object.__setattr__(self, "value", f"{self.value[: MOST_TEXT - 1]}…")


class Fault(Exception):  # noqa: N818 (a fault of the data)
    """What is wrong with one episode alone: it is left out, and the others come."""

    def __init__(self, what: str, row: int | None = None, rule: str = "rows") -> None:
        """`row`: within the episode, where it is about one; `rule`: as of a `Finding`."""
        super().__init__(what)
        self.what, self.row, self.rule = what, row, rule
