"""What an artifact read and learned from, told by the raw Delta tables alone: opened with delta-rs, followed row by
row.

Written to share nothing with the program but the meaning of the columns: no handle, no ledger, no SQL. Slow, and plain.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

from deltalake import DeltaTable

TABLES = ("artifacts", "edges", "episodes", "members", "reads", "reward_scores", "quarantine", "labels")
LEARNERS = ("world_model", "reward_model", "policy")


class Raw:
    """All rows of a lake. Rows of runs that never committed are left out, as no row of `artifacts` names them."""

    def __init__(self, root: Path):
        found = {
            name: DeltaTable(str(table)).to_pyarrow_table().to_pylist()
            if (table := root / "delta" / name).exists() or name != "labels"  # made with the first one
            else []
            for name in TABLES
        }
        self.artifacts = {row["artifact_id"]: row for row in found["artifacts"]}
        self.of = {name: defaultdict(list) for name in TABLES}
        for name in TABLES[1:]:
            for row in found[name]:
                if row["artifact_id"] in self.artifacts:
                    self.of[name][row["artifact_id"]].append(row)

    def owner(self, artifact: str) -> str:
        return self.artifacts[artifact]["source_artifact_id"] or artifact

    def edges(self, artifact: str) -> list[dict]:
        """Its own; of a pointer that has none its owner's."""
        return self.of["edges"][artifact] or self.of["edges"][self.owner(artifact)]

    def closure(self, artifact: str) -> set[str]:
        seen: set[str] = set()
        waiting = [artifact if self.of["edges"][artifact] else self.owner(artifact)]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += [
                    edge["read_as"]
                    if edge["read_as"] != edge["parent_id"] and self.of["edges"][edge["read_as"]]
                    else edge["parent_id"]
                    for edge in self.edges(name)
                ]
        return seen

    def left_out(self, artifact: str) -> set[str]:
        """Ids that the quarantine of that time kept out: the listed ones, and what was imagined from them."""
        ids = {
            row["episode_id"]
            for edge in self.edges(artifact)
            if edge["role"] == "quarantine"
            for row in self.of["quarantine"][edge["parent_id"]]
        }
        everything = [row for rows in self.of["episodes"].values() for row in rows]
        while more := {row["episode_id"] for row in everything if row["start_episode_id"] in ids} - ids:
            ids |= more
        return ids

    def said(self, artifact: str) -> dict[str, bool]:
        """Success by the labels that it was made with."""
        rows = [
            row
            for edge in self.edges(artifact)
            if edge["role"] == "labels"
            for row in self.of["labels"][edge["parent_id"]]
        ]
        return {row["episode_id"]: row["label"] == "success" for row in sorted(rows, key=lambda row: row["position"])}

    def read(self, artifact: str) -> list[tuple[dict, dict]]:
        """(edge, episode row) of everything read."""
        owner, gone = self.owner(artifact), self.left_out(artifact)
        found = []
        for edge in self.edges(artifact):
            if edge["role"] not in ("quarantine", "labels", "state"):
                found += [
                    (edge, row)
                    for row in self.of["episodes"][edge["parent_id"]]
                    if row["episode_id"] not in gone and self._selected(owner, edge, row["episode_id"])
                ]
        if any(edge["role"] == "training_set" for edge in self.edges(artifact)):  # what it tried while it learned
            practice = {"parent_id": owner, "role": "practice"}
            found += [(practice, row) for row in self.of["episodes"][owner] if row["episode_id"] not in gone]
        return found

    def _selected(self, child: str, edge: dict, episode: str) -> bool:
        if edge["scope"] == "rows":
            if '"embeddings":' in self.artifacts[child]["versions_json"]:
                return True
            return any(
                (row["owner"], row["episode_id"]) == (edge["parent_id"], episode)
                for name in ("members", "reward_scores")
                for row in self.of[name][child]
            ) or any(row["start_episode_id"] == episode for row in self.of["episodes"][child])
        if edge["selection"] == "members":
            return any(
                (row["owner"], row["episode_id"]) == (edge["parent_id"], episode) and row["weight"] > 0
                for row in self.of["members"][edge["selection_id"]]
            )
        if edge["selection"] == "listed":
            return any(
                (row["parent_id"], row["episode_id"]) == (edge["parent_id"], episode) for row in self.of["reads"][child]
            )
        return True

    def weight(self, artifact: str, owner: str, episode: str) -> float:
        """Of the episode in the training sets that the artifact read; 1 without one, and of its own practice."""
        if owner == self.owner(artifact):
            return 1.0
        sets = [edge["parent_id"] for edge in self.edges(artifact) if self.of["members"][edge["parent_id"]]]
        weights = [
            row["weight"]
            for name in sets
            for row in self.of["members"][name]
            if (row["owner"], row["episode_id"]) == (owner, episode)
        ]
        return max(weights, default=0.0) if sets else 1.0

    def learned(self, artifact: str) -> Counter:
        """(learner's artifact, dataset's artifact, task, outcome) -> episodes, over the learners of the closure."""
        found: Counter = Counter()
        for name in self.closure(artifact):
            if self.artifacts[name]["kind"] in LEARNERS:
                said = self.said(name)
                for edge, row in self.read(name):
                    if self.weight(name, edge["parent_id"], row["episode_id"]) > 0:
                        success = said.get(row["episode_id"], row["success"])
                        found[name, edge["parent_id"], row["task"], outcome(success)] += 1
        return found

    def episodes(self, artifact: str) -> Counter:
        """(dataset's artifact, purpose, task, outcome) -> episodes read by anything in the closure, each once."""
        read = {
            (edge["parent_id"], row["episode_id"]): row
            for name in self.closure(artifact)
            for edge, row in self.read(name)
        }
        own = self.owner(artifact)
        read |= {(own, row["episode_id"]): row for row in self.of["episodes"][own]}
        return Counter(
            (owner, row["purpose"], row["task"], outcome(row["success"])) for (owner, _), row in read.items()
        )

    def current(self, asset: str, partition: str) -> str:
        rows = [row for row in self.artifacts.values() if (row["asset"], row["partition"]) == (asset, partition)]
        return max(rows, key=lambda row: row["created_at"])["artifact_id"]

    def promotion(self, state: str) -> dict:
        return json.loads(self.artifacts[state]["metrics_json"]).get("promotion", {})


def outcome(success: bool | None) -> str:
    return "not judged" if success is None else "success" if success else "failure"
