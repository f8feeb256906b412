"""Which artifacts of two closures are held against each other, and which of the lake measure them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.lineage.layout import levels
from vlaw_assets.lineage.reading import LEARNERS, name_of

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

Item = dict[str, Any]
"""An artifact of a closure, as `closure.audit_of` has it."""


@dataclass(frozen=True)
class Side:
    """One of the two, with its closure."""

    lake: Lake
    ref: ArtifactRef
    items: list[Item]
    """The closure, iterations in order, each as the loop makes it."""
    subject: Item
    """What is asked about, as the closure has it."""

    @classmethod
    def of(cls, lake: Lake, closure: dict[str, Any]) -> Side:
        """From what `closure.audit_of` says."""
        items = [item for _, level in levels(closure["artifacts"]) for item in level]
        return cls(lake, lake.ledger.get(closure["artifact"]), items, closure["artifacts"][-1])

    def last(self, *names: str, key: str = "kind") -> Item | None:
        """The last artifact of the closure of one of these kinds (or assets)."""
        return next((item for item in reversed(self.items) if item[key] in names), None)

    def get(self, item: Item) -> ArtifactRef:
        """The ledger row of an item; a pointer's own where it has edges of its own."""
        return self.lake.ledger.get(item["artifact"])


def counterparts(a: Side, b: Side) -> list[tuple[Item, Item]]:
    """Models that learned, of unlike content: the last of each kind, and those of the same asset and iteration before.

    What is asked about comes first. A model that only one side has is in no pair.
    """
    found: dict[tuple[str, str], tuple[Item, Item]] = {}
    subjects = (a.subject, b.subject)
    pairs = [subjects] if subjects[0]["kind"] == subjects[1]["kind"] else []
    for kind in reversed(LEARNERS):
        last = (a.last(kind), b.last(kind))
        pairs += [(last[0], last[1])] if last[0] and last[1] else []
    slots = {_slot(item): item for item in b.items if item["kind"] in LEARNERS}
    pairs += [(item, slots[_slot(item)]) for item in reversed(a.items) if _slot(item) in slots]
    for first, second in pairs:
        if first["content_sha256"] != second["content_sha256"]:
            found.setdefault((first["owner"], second["owner"]), (first, second))
    return list(found.values())


def label(pair: tuple[Item, Item], pairs: list[tuple[Item, Item]]) -> str:
    """What a pair is called: its asset, with the iteration where there are several pairs of that kind."""
    kind = pair[1]["kind"]
    first = next(other for other in pairs if other[1]["kind"] == kind)
    iteration = pair[1]["partition"].partition("|")[2]
    return kind if pair is first or not iteration else f"{kind} {iteration}"


def names(pair: tuple[Item, Item]) -> tuple[str, str]:
    return name_of(pair[0]), name_of(pair[1])


def parent(lake: Lake, ref: ArtifactRef, role: str) -> ArtifactRef | None:
    """What an artifact read in this role."""
    return next((found for name, found in lake.ledger.edges(ref.artifact_id) if name == role), None)


def measured_by(lake: Lake, ref: ArtifactRef, role: str, kind: str, table: str) -> ArtifactRef | None:
    """The newest artifact of this kind that read `ref` in this role and holds this table; one of its own partition
    first."""
    readers = [
        other
        for other in lake.ledger.artifacts()
        if other.kind == kind
        and not other.source_artifact_id
        and table in other.versions
        and any(edge.role == role and edge.parent == ref.owner for edge in lake.ledger.edge_rows(other.artifact_id))
    ]
    own = [other for other in readers if other.partition == ref.partition]
    found = own or readers
    return found[-1] if found else None


def _slot(item: Item) -> tuple[str, str]:
    return item["asset"], item["partition"].partition("|")[2]
