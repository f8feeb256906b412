"""What a draft read, as rows of the ledger: its edges, each with which episodes of the parent went into the artifact.

What the handles saw becomes `edges` and `reads`. A selection is kept as a predicate where one says it exactly (all; the
members of a dataset), and as rows only where none does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.artifact import Edge

if TYPE_CHECKING:
    from vlaw_assets.lake.handles import Handle

_COLUMNS = ("role", "read_as", "scope", "selection", "selection_id")


def lineage(edges: Iterable[Edge], handles: Mapping[str, Handle]) -> dict[str, list[dict[str, Any]]]:
    """Rows of `edges` and `reads`, without the columns that say whose they are. `handles` are by parent id."""
    selected = [_selected(edge, handles) for edge in edges]
    listed = dict.fromkeys(edge.parent for edge in selected if edge.selection == "listed")
    reads = [
        {"parent_id": parent, "episode_id": name} for parent in listed for name in sorted(handles[parent].given() or ())
    ]
    return {
        "edges": [{"parent_id": edge.parent} | {name: getattr(edge, name) for name in _COLUMNS} for edge in selected],
        "reads": [{"position": position} | row for position, row in enumerate(reads)],
    }


def _selected(edge: Edge, handles: Mapping[str, Handle]) -> Edge:
    """The edge with what its handle gave away. By rows, the rows of the child say it themselves."""
    handle = handles.get(edge.parent)
    given = handle.given() if handle else None
    if edge.scope == "rows" or handle is None or given is None or given == handle.available():
        return edge
    for name, dataset in handles.items():
        if "members" in dataset.ref.versions and given == dataset.weighted(edge.parent):
            return dataclasses.replace(edge, selection="members", selection_id=name)
    return dataclasses.replace(edge, selection="listed")
