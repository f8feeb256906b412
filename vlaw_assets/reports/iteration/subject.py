"""Which iteration a report is about, and what its sections name: every artifact and episode gets an anchor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.picking import Key
from vlaw_assets.partitions import partition_of
from vlaw_assets.reports.markup import Html, code, tag

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    anchor: str
    title: str
    finding: str
    """What it comes to, for the contents; '' for nothing."""
    body: Html


@dataclass
class Subject:
    """One iteration of one experiment in a lake."""

    lake: Lake
    experiment: str
    iteration: int
    folder: Path | None = None
    """Where the page will lie: pages of episodes that lie there are linked."""
    artifacts: dict[str, ArtifactRef] = field(default_factory=dict)
    """Artifact id -> those that are named."""
    episodes: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    """Key -> row of the table `episodes`, of those that are named."""

    @property
    def key(self) -> str:
        return partition_of(self.experiment, self.iteration)

    @property
    def name(self) -> str:
        """'vlaw, iteration 02'."""
        return f"{self.experiment}, iteration {self.iteration:02d}"

    def current(self, asset: str) -> ArtifactRef | None:
        """The artifact of an asset of this iteration; None where it was not made."""
        return self.lake.ledger.current(asset, self.key)

    def artifact(self, ref: ArtifactRef) -> Html:
        """The name of an artifact, which leads to its row at the end of the page."""
        self.artifacts.setdefault(ref.artifact_id, ref)
        return tag("a", ref.name, href=f"#{ref.artifact_id}", title=f"content {ref.content_digest}")

    def episode(self, owner: str, row: Mapping[str, Any]) -> Html:
        """The id of an episode, which leads to its row at the end of the page."""
        key = owner, row["episode_id"]
        self.episodes.setdefault(key, row)
        self.artifact(self.lake.ledger.get(owner))
        return tag("a", code(row["episode_id"]), href=f"#{self.anchor(key)}")

    def anchor(self, key: Key) -> str:
        """The anchor of an episode that was named. Ids of episodes may be any text, so these are numbers."""
        return f"episode-{list(self.episodes).index(key) + 1}"
