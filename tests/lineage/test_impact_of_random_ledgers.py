"""What an episode or an artifact reached, on random ledgers: as told by following every single row."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from random_ledgers import closed, random_ledger

from vlaw_assets.lineage.impact import impact


def oracle(lake, episode=None, artifact=None):
    """{artifact id: ('whole' | 'rows', rows)} by walking every row: nodes are (artifact, row number) and (artifact,
    None) for what it is besides its rows; an artifact is 'whole' when that node is reached."""
    arrows = defaultdict(set)
    for child, edges in lake.edges_of.items():
        body, rows = (child, None), list(enumerate(lake.rows[child]))
        everything = {body, *((child, number) for number, _ in rows)}
        arrows[body] |= everything
        left_out = set()
        for edge in edges:
            if edge.role == "quarantine":
                left_out |= closed(lake, lake.lists[edge.parent])
        for edge in edges:
            arrows[edge.parent, None] |= everything
            for number, (table, _, key, _) in enumerate(lake.rows[edge.parent]):
                if key[1] in left_out:
                    continue
                if edge.scope == "rows":
                    arrows[edge.parent, number] |= {
                        (child, index)
                        for index, (_, named, _, _) in rows
                        if named and named[1] == key[1] and named[0] in (None, key[0])
                    }
                elif (
                    edge.selection == "all"
                    or (edge.selection == "listed" and (edge.parent, key[1]) in lake.listed[child])
                    or (
                        edge.selection == "members"
                        and table == "episodes"
                        and any(named == key and weight > 0 for _, named, _, weight in lake.rows[edge.selection_id])
                    )
                ):
                    arrows[edge.parent, number] |= everything
    start = (
        [(artifact, None)]
        if artifact
        else [
            (name, number)
            for name, rows in lake.rows.items()
            for number, (table, _, own, _) in enumerate(rows)
            if table == "episodes" and own[1] == episode
        ]
    )
    seen, waiting = set(start), list(start)
    while waiting:
        for node in arrows[waiting.pop()] - seen:
            seen.add(node)
            waiting.append(node)
    holders = {name for name, _ in start}
    found = {}
    for ref in lake.refs:
        touched = {number for name, number in seen if name == ref.owner}
        if touched and ref.artifact_id not in holders:
            found[ref.artifact_id] = ("whole", ref.num_rows) if None in touched else ("rows", len(touched))
    return found


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_random_ledgers_agree_with_following_every_row(tmp_path, count):
    kinds, answers = set(), 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        lake = random_ledger(rng, folder)
        episodes = sorted({own[1] for rows in lake.rows.values() for table, _, own, _ in rows if table == "episodes"})
        left_out = sorted({name for ids in lake.lists.values() for name in ids})
        for episode in {*rng.permutation(episodes)[:1].tolist(), *rng.permutation(left_out)[:2].tolist()}:
            expected = oracle(lake, episode=episode)
            assert {item.ref.artifact_id: (item.how, item.rows) for item in impact(lake, episode)} == expected, (
                seed,
                episode,
            )
            kinds |= {how for how, _ in expected.values()}
            answers += bool(expected)
        owners = [ref for ref in lake.refs if not ref.source_artifact_id]
        if owners:
            ref = owners[int(rng.integers(len(owners)))]
            subject = SimpleNamespace(name="", holders=(ref,), is_episode=False)
            assert {item.ref.artifact_id: (item.how, item.rows) for item in impact(lake, subject)} == oracle(
                lake, artifact=ref.artifact_id
            ), seed
    assert kinds == {"whole", "rows"}
    assert answers > 3 * count / 4, "most questions must have an answer for this to say anything"
