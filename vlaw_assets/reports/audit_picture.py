"""The graph of an audit as SVG.

A column per iteration (the foundation first), a row per asset in the order of the loop, a curve per read, coloured by
what was read. Hovering shows the digests, a click leads to the artifact's row.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlaw_assets.lineage.closure import short
from vlaw_assets.lineage.layout import SHORT, levels, rank
from vlaw_assets.lineage.reading import name_of

STYLE = """
svg text { font-family: system-ui, sans-serif; } svg a { text-decoration: none; }
svg .edge { fill: none; stroke-width: 1.6; opacity: .62; } svg .edge:hover { stroke-width: 3.5; opacity: 1; }
svg .box { fill: #fff; stroke: #aab4c2; } svg a:hover .box { stroke: #1c2430; stroke-width: 2; }
svg .mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 10.5px; fill: #5b6675; }
"""
"""Of the page that the picture is on."""
WIDTH, HEIGHT = 200, 50
"""Of a node, in pixels."""
GAP_X, GAP_Y = 170, 30
TOP, LEFT = 64, 30
FAR = 2
"""Rows or columns from which on an edge is no longer a neighbour's."""
COUNTERPARTS = {
    "base_policy": "policy",
    "pretrained_world_model": "world_model",
    "pretrained_reward_model": "reward_model",
    "co_training_data": "real_rollouts",
    "near_success": "real_rollouts",
    "autoencoder": "imagined_rollouts",
    "expert_demonstrations": "training_set",
}
"""Foundation asset -> loop asset in whose row it stands: the foundation is iteration 0."""
CLASSES = {
    "real": ("#0072b2", "real and expert episodes"),
    "imagined": ("#e08e00", "imagined episodes"),
    "world": ("#c8481c", "world model, autoencoder"),
    "judge": ("#a8568c", "judge, scores"),
    "set": ("#52616f", "training set, state, measurements"),
    "policy": ("#00875f", "policy"),
}
"""What is read -> its colour (the Okabe-Ito palette, darkened for thin lines on white) and its name in the legend."""
CLASS_OF = {
    "policy": "policy",
    "base_policy": "policy",
    "world_model": "world",
    "pretrained_world_model": "world",
    "autoencoder": "world",
    "reward_model": "judge",
    "pretrained_reward_model": "judge",
    "reward_scores": "judge",
    "imagined_rollouts": "imagined",
    "training_set": "set",
    "loop_state": "set",
    "quarantine": "set",
    "labels": "set",
    "real_rollouts": "real",
    "co_training_data": "real",
    "near_success": "real",
    "expert_demonstrations": "real",
    "recorded_episodes": "real",
    "recorded_statistics": "set",
    "validation_rollouts": "real",
}


@dataclass(frozen=True)
class _Node:
    item: dict[str, Any]
    column: int
    row: int

    @property
    def x(self) -> int:
        return LEFT + self.column * (WIDTH + GAP_X)

    @property
    def y(self) -> int:
        return TOP + self.row * (HEIGHT + GAP_Y)


def picture(found: dict[str, Any]) -> str:
    """The graph as an <svg> element."""
    columns = levels(found["artifacts"])
    nodes = _placed(columns)
    rows = max(node.row for node in nodes.values()) + 1
    used = {_class(node.item) for node in nodes.values()}
    legend, legend_width = _legend(used, TOP + rows * (HEIGHT + GAP_Y) + 20)
    # The bows of the last column need room on its right.
    width = max(2 * LEFT + len(columns) * (WIDTH + GAP_X) - GAP_X + (_bow(rows) if rows > FAR else 0), legend_width)
    height = TOP + rows * (HEIGHT + GAP_Y) + 34
    edges = [(nodes[edge["artifact"]], node, edge["role"]) for node in nodes.values() for edge in node.item["parents"]]
    # Long edges first: short ones are drawn above them.
    edges.sort(key=lambda edge: -abs(edge[1].column - edge[0].column) * 100 - abs(edge[1].row - edge[0].row))
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} '
                f'{height}" role="img" '
                f'aria-label="{html.escape(short(found), quote=True)}">'
            ),
            "<defs>",
            *(
                f'<marker id="head-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.6 L8,4 L0,7.4 z" fill="{colour}"/></marker>'
                for name, (colour, _) in CLASSES.items()
            ),
            "</defs>",
            *(_band(number, partition, columns, height) for number, (partition, _) in enumerate(columns)),
            *(_edge(*edge) for edge in edges),
            *(_box(node, found["owner"]) for node in nodes.values()),
            *legend,
            "</svg>",
        ]
    )


def _placed(columns: Sequence[tuple[str, list[dict[str, Any]]]]) -> dict[str, _Node]:
    """Every artifact with its column and row. Versions of one asset in one partition take a row each."""
    wanted: dict[str, tuple[int, tuple[str, int]]] = {}
    for column, (partition, items) in enumerate(columns):
        seen: dict[str, int] = {}
        for item in items:
            asset = item["asset"] if partition else COUNTERPARTS.get(item["asset"], item["asset"])
            wanted[item["artifact"]] = column, (asset, seen.setdefault(asset, 0))
            seen[asset] += 1
    loop = {
        slot for (partition, items) in columns if partition for item in items for slot in [wanted[item["artifact"]][1]]
    }
    order = {slot: row for row, slot in enumerate(sorted(loop, key=lambda slot: (rank(slot[0]), slot[1])))}
    taken = {order[slot] for column, slot in wanted.values() if column == 0 and slot in order}
    nodes = {}
    for _, items in columns:
        for item in items:
            column, slot = wanted[item["artifact"]]
            if slot in order:
                row = order[slot]
            else:  # a foundation asset without a counterpart in this closure: the first free row
                row = next(number for number in range(len(wanted) + len(order)) if number not in taken)
                taken.add(row)
            nodes[item["artifact"]] = _Node(item, column, row)
    return nodes


def _class(item: dict[str, Any]) -> str:
    return CLASS_OF.get(item["asset"], "set")


def _band(number: int, partition: str, columns: Sequence[tuple[str, Any]], height: int) -> str:
    experiment, _, iteration = partition.partition("|")
    several = len({key.partition("|")[0] for key, _ in columns if key}) > 1
    label = (
        "foundation"
        if not partition
        else f"{experiment}, iteration {iteration}"
        if several
        else f"iteration {iteration}"
    )
    x = LEFT + number * (WIDTH + GAP_X)
    return (
        f'<rect x="{x - 16}" y="8" width="{WIDTH + 32}" height="{height - 48}" rx="10" fill="#f4f6f9"/>'
        f'<text x="{x + WIDTH / 2}" y="38" text-anchor="middle" font-size="15" font-weight="600" fill="#39434f">'
        f"{html.escape(label)}</text>"
    )


def _edge(parent: _Node, child: _Node, role: str) -> str:
    name = _class(parent.item)
    title = html.escape(
        f"{name_of(child.item)} reads {name_of(parent.item)} as {role}{_how_many(child.item, parent.item, role)}"
    )
    return (
        f'<path class="edge" d="{_curve(parent, child)}" stroke="{CLASSES[name][0]}" marker-end="url(#head-{name})">'
        f"<title>{title}</title></path>"
    )


def _how_many(child: dict[str, Any], parent: dict[str, Any], role: str) -> str:
    """': 120 of 400 episodes' where the parent holds episodes."""
    held = sum(row["count"] for row in parent["contents"].get("episodes", ()))
    read = sum(
        edge["read"] for edge in child["parents"] if (edge["artifact"], edge["role"]) == (parent["artifact"], role)
    )
    return f": {read} of {held} episodes" if held else ""


def _curve(parent: _Node, child: _Node) -> str:
    """Down from box to box for neighbours in a column, a bow on the right for others in it, else from right to left."""
    middle = HEIGHT / 2
    if parent.column == child.column:
        distance = child.row - parent.row
        if 0 < distance < FAR:
            x = parent.x + WIDTH / 2
            return f"M{x},{parent.y + HEIGHT} L{x},{child.y - 1}"
        right, bow = parent.x + WIDTH, _bow(abs(distance))
        nested = 3.5 * min(abs(distance), 7)  # an outer bow begins above an inner one and ends below it
        y1, y2 = parent.y + middle + 19 - nested, child.y + middle - 19 + nested
        return f"M{right},{y1} C{right + bow},{y1} {right + bow},{y2} {right + 1},{y2}"
    x1, y1 = parent.x + WIDTH, parent.y + middle - 6
    x2, y2 = child.x - 1, child.y + middle + _spread(parent, child)
    if child.column - parent.column < FAR:
        pull = (x2 - x1) * 0.55
        return f"M{x1},{y1} C{x1 + pull},{y1} {x2 - pull},{y2} {x2},{y2}"
    # Over several columns: along the gap below the parent's row, so that boxes in between stay free.
    lane = parent.y + HEIGHT + GAP_Y / 2 + _spread(parent, child) / 3
    a, b = x1 + GAP_X * 0.7, x2 - GAP_X * 0.7
    return (
        f"M{x1},{y1} C{x1 + GAP_X * 0.4},{y1} {x1 + GAP_X * 0.35},{lane} {a},{lane} L{b},{lane} "
        f"C{x2 - GAP_X * 0.35},{lane} {x2 - GAP_X * 0.4},{y2} {x2},{y2}"
    )


def _bow(rows: int) -> int:
    """How far the control points of an edge over so many rows lie on the right of its boxes."""
    return 16 + 10 * rows


def _spread(parent: _Node, child: _Node) -> float:
    """Where on the child's left side an edge ends: parents above end higher, so that few edges cross."""
    return max(-18.0, min(18.0, 5.0 * (parent.row - child.row))) + 1.5 * (child.column - parent.column - 1)


def _box(node: _Node, owner: str) -> str:
    item = node.item
    colour = CLASSES[_class(item)][0]
    text = "\n".join(
        [
            name_of(item),
            f"content {item['content_sha256']}",
            f"code {item['code_sha256']}",
            f"recipe {item['recipe_sha256']}",
            f"parents {item['parents_sha256']}",
            f"run {item['run_id']}, {item['created_at'][:19]} UTC",
        ]
    )
    thick = f' style="stroke:{colour};stroke-width:3"' if item["artifact"] == owner else ""
    x, y = node.x, node.y
    return (
        f'<a href="#{html.escape(item["artifact"])}"><g><title>{html.escape(text)}</title>'
        f'<rect class="box" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"{thick}/>'
        f'<path d="M{x + 6},{y} a6,6 0 0 0 -6,6 v{HEIGHT - 12} a6,6 0 0 0 6,6 z" fill="{colour}"/>'
        f'<text x="{x + 15}" y="{y + 17}" font-size="12.5" font-weight="600" '
        f'fill="#1c2430">{html.escape(item["asset"])}</text>'
        f'<text x="{x + 15}" y="{y + 31}" font-size="11" fill="#39434f">{html.escape(figure(item))}</text>'
        f'<text x="{x + 15}" y="{y + 44}" class="mono">{item["content_sha256"][:SHORT]}</text></g></a>'
    )


def figure(item: dict[str, Any]) -> str:
    """The one number of an artifact that a reader wants in the picture."""
    held = item["contents"]
    if rows := held.get("episodes"):
        count = sum(row["count"] for row in rows)
        judged = sum(row["count"] for row in rows if row["outcome"] != "not judged")
        good = sum(row["count"] for row in rows if row["outcome"] == "success")
        return f"{count} episodes, {100 * good / judged:.0f} % success" if judged else f"{count} episodes"
    if rows := held.get("members"):
        sources = {row["source"]: 0 for row in rows}
        for row in rows:
            sources[row["source"]] += row["count"]
        return " + ".join(f"{count} {source}" for source, count in sorted(sources.items(), reverse=True))
    if rows := held.get("scores"):
        return f"{sum(row['count'] for row in rows)} scores"
    return "checkpoint" if item["location"] else f"{item['rows']} row{'s' * (item['rows'] != 1)}"


def _legend(used: set[str], y: int) -> tuple[list[str], int]:
    """The legend's elements and how far right they reach."""
    parts, x = [], LEFT
    for name, (colour, label) in CLASSES.items():
        if name in used:
            parts.append(
                f'<path d="M{x},{y - 4} h26" stroke="{colour}" stroke-width="2.5" marker-end="url(#head-{name})"/>'
                f'<text x="{x + 33}" y="{y}" font-size="12" fill="#39434f">{html.escape(label)}</text>'
            )
            x += 52 + 7 * len(label)
    return parts, x
