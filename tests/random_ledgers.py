"""Ledgers of random artifacts: rows in Parquet files as in a lake, edges in memory, all of it in plain lists too."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

from vlaw_assets.lake.artifact import ArtifactRef, Edge
from vlaw_assets.lake.schemas import TABLES


class Random:
    """A random ledger behind the interface that `impact` uses; what is in it is also kept as plain lists."""

    def __init__(self, rng, folder):
        self.rng, self.paths, self.ledger = rng, SimpleNamespace(root=folder), self
        self.verified = SimpleNamespace(damage=lambda _files: None)  # its files have no digests
        self.refs, self.edges_of, self.rows = [], {}, {}
        """rows: artifact id -> [(table, named key or None, own key, weight)]"""
        self.lists, self.listed = {}, {}

    def artifacts(self):
        return self.refs

    def get(self, artifact_id):
        return next(ref for ref in self.refs if ref.artifact_id == artifact_id)

    def edge_rows(self, artifact_id):
        return self.edges_of[self.get(artifact_id).owner]

    def own_edges(self, artifact_id):
        return self.edges_of.get(artifact_id, [])

    def read(self, ref):
        rows = [{"episode_id": name, "why": "", "by": "", "at": None} for name in self.lists[ref.artifact_id]]
        return SimpleNamespace(table=lambda _name: pa.Table.from_pylist(rows) if rows else pa.table({"episode_id": []}))

    def add(self, asset, edges, rows, tables):
        number = len(self.refs)
        artifact = f"{asset}-{number:03d}"
        versions = {}
        for name, columns in tables.items():
            if columns:
                table = pa.Table.from_pylist([{"artifact_id": artifact} | row for row in columns])
                schema = TABLES[name]
                for field in schema:
                    if field.name not in table.column_names:
                        table = table.append_column(field.name, pa.nulls(len(columns), field.type))
                pq.write_table(table, self.paths.root / f"{artifact}-{name}.parquet")
                versions[name] = {"files": [{"path": f"{artifact}-{name}.parquet"}]}
        self.refs.append(reference(artifact, asset, versions, len(rows)))
        self.edges_of[artifact], self.rows[artifact] = edges, rows
        return artifact

    def pick(self, items, share=0.5):
        return [item for item in items if self.rng.random() < share]


def reference(artifact, asset, versions, count, source=""):
    return ArtifactRef(
        artifact_id=artifact,
        asset=asset,
        partition=f"x|{len(artifact):02d}",
        kind=asset,
        content_digest="",
        code_digest="",
        recipe_digest="",
        parents_digest="",
        identity_digest="",
        source_artifact_id=source,
        location="",
        versions=versions,
        recipe_json="",
        metrics={},
        num_rows=count,
        run_id="",
        created_at=datetime.now(UTC),
    )


def random_ledger(rng, folder):
    """Rollouts, imagined episodes, scores, datasets and models in random order, reading random earlier ones."""
    lake = Random(rng, folder)
    for _ in range(rng.integers(8, 20)):
        of = defaultdict(list)
        for ref in lake.refs:
            if not ref.source_artifact_id:
                of[ref.asset].append(ref.artifact_id)
        kind = rng.choice(
            ["real", "imagined", "scores", "dataset", "dataset", "model", "model", "pointer", "quarantine"]
        )
        some = {name: lake.pick(found) for name, found in of.items()}
        edges = []
        holders = [*of["real"], *of["imagined"]]
        left_out, exclusion = set(), None
        if of["quarantine"] and kind not in ("quarantine", "pointer", "real") and rng.random() < 0.6:
            exclusion = of["quarantine"][-1]
            edges.append(Edge(exclusion, "quarantine", exclusion, "rows", "all", ""))
            left_out = closed(lake, lake.lists[exclusion])

        def keys_of(artifacts, left_out=left_out):
            return [own for artifact in artifacts for _, _, own, _ in lake.rows[artifact] if own[1] not in left_out]

        if kind == "real":
            number = int(rng.integers(0, 3))  # ids repeat: an artifact made again by force has the same ones
            edges += [
                Edge(name, "policy", name, "whole", "all", "") for name in lake.pick(some.get("model", [])[:1], 0.3)
            ]
            rows = [
                ("episodes", None, (f"real-{len(lake.refs):03d}", f"r{number}-{i}"), 1.0)
                for i in range(rng.integers(1, 4))
            ]
            lake.add("real", edges, rows, {"episodes": [{"episode_id": own[1]} for _, _, own, _ in rows]})
        elif kind == "imagined" and of["real"]:
            parents = some.get("real") or of["real"][:1]
            starts = lake.pick(keys_of(parents), 0.7)
            edges += [Edge(name, "starts", name, "rows", "all", "") for name in parents]
            edges += [
                Edge(name, "model", name, "whole", "all", "") for name in lake.pick(some.get("model", [])[:1], 0.3)
            ]
            own = f"imagined-{len(lake.refs):03d}"
            rows = [
                ("episodes", (None, start[1]), (own, f"i{len(lake.refs)}-{i}"), 1.0) for i, start in enumerate(starts)
            ]
            lake.add(
                "imagined",
                edges,
                rows,
                {"episodes": [{"episode_id": key[1], "start_episode_id": named[1]} for _, named, key, _ in rows]},
            )
        elif kind == "scores" and holders:
            parents = lake.pick(holders) or holders[:1]
            scored = lake.pick(keys_of(parents), 0.7)
            edges += [Edge(name, "scored", name, "rows", "all", "") for name in parents]
            lake.add(
                "scores",
                edges,
                [("reward_scores", key, key, 1.0) for key in scored],
                {"reward_scores": [{"episode_id": key[1], "owner": key[0]} for key in scored]},
            )
        elif kind == "dataset" and holders:
            parents = [*(lake.pick(holders) or holders[:1]), *some.get("scores", [])]
            chosen = lake.pick(sorted(set(keys_of(parents))), 0.6)
            edges += [Edge(name, "data", name, "rows", "all", "") for name in parents]
            rows = [("members", key, key, float(rng.integers(0, 2))) for key in chosen]
            lake.add(
                "dataset",
                edges,
                rows,
                {"members": [{"episode_id": key[1], "owner": key[0], "weight": weight} for _, _, key, weight in rows]},
            )
        elif kind == "model" and lake.refs:
            own, reads = f"model-{len(lake.refs):03d}", []
            for name in lake.pick(holders):
                selection = str(
                    rng.choice(["all", "members", "members", "listed"] if of["dataset"] else ["all", "listed"])
                )
                dataset = str(rng.choice(of["dataset"])) if selection == "members" else ""
                if selection == "listed":
                    reads += [(name, key[1]) for key in lake.pick(keys_of([name]))]
                edges.append(Edge(name, "data", name, "whole", selection, dataset))
            edges += [
                Edge(name, "more", name, "whole", "all", "")
                for name in lake.pick([*some.get("dataset", []), *some.get("scores", []), *some.get("model", [])], 0.3)
            ]
            lake.listed[own] = reads
            lake.add(
                "model", edges, [], {"reads": [{"parent_id": parent, "episode_id": name} for parent, name in reads]}
            )
        elif kind == "pointer" and of["model"] + holders:
            source = lake.get(str(rng.choice(of["model"] + holders)))
            lake.refs.append(
                reference(
                    f"pointer-{len(lake.refs):03d}", source.asset, source.versions, source.num_rows, source.artifact_id
                )
            )
        elif kind == "quarantine" and holders:
            listed = sorted({key[1] for key in lake.pick(keys_of(holders), 0.3)})
            lake.lists[lake.add("quarantine", [], [], {"quarantine": [{"episode_id": name} for name in listed]})] = (
                listed
            )
    return lake


def closed(lake, ids):
    """Ids and everything imagined from them."""
    found = set(ids)
    for _ in lake.refs:
        found |= {
            own[1]
            for rows in lake.rows.values()
            for table, named, own, _ in rows
            if table == "episodes" and named and named[1] in found
        }
    return found
