"""Nothing that SQL, a lookup or a report answers was tampered with."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import rewrite
from known_lake import known
from known_study import known_study
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.inbox.refused import note_refusal
from vlaw_assets.lake import Lake, quarantine, verified
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lake.verified import Verified, memory_of
from vlaw_assets.lineage.impact import impact
from vlaw_assets.query import connect, views
from vlaw_models.errors import VlawError

# What was tampered with: rewritten with other values, to exactly the same size, with the old times.


def forge(path: Path, **values) -> None:
    """Set whole columns of a Parquet file; its size and its mtime stay."""
    size, times = path.stat().st_size, path.stat().st_mtime_ns
    table = pq.ParquetFile(path).read()
    for name, value in values.items():
        index = table.schema.get_field_index(name)
        column = pa.array([value] * table.num_rows, table.schema.field(name).type)
        table = table.set_column(index, table.schema.field(name), column)
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        write_statistics=False,
        use_dictionary=False,
        store_schema=False,
    )
    data = path.read_bytes()
    footer = 8 + int.from_bytes(data[-8:-4], "little")
    path.write_bytes(
        data[:-footer] + bytes(size - len(data)) + data[-footer:]
    )  # nobody looks between the rows and the footer
    os.utime(path, ns=(times, times))


def forge_edge(path: Path) -> None:
    """In a log entry: another role of the same length, in a line that is still JSON."""
    data = path.read_bytes()
    assert b"policy" in data
    rewrite(path, data.replace(b"policy", b"police"))


FINDING = {"episode": 3, "row": 7, "rule": "row_spacing", "value": "a row is late", "decision": "excluded"}
STATISTIC = {"vector": "state", "number": 0, "name": "x", "unit": "m", "count": 2} | dict.fromkeys(
    ("mean", "std", "min", "max", "q01", "q99"), 0.5
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A lake with rows in every table, a study's artifacts among them, whose files are old enough to be remembered."""
    folder = tmp_path_factory.mktemp("pristine")
    lake = Lake.open(folder / "lake")
    k = known(lake)
    k.make(
        "look 1",
        {"real": "real_rollouts 1"},
        lambda draft: draft.read(k.refs["real_rollouts 1"], "real").episodes(episode_ids=[k.ids["r0"]]),
        partition="vlaw|01",
        checkpoint="look",
    )
    k.make("recorded_episodes 1", {}, lambda draft: draft.write_findings([FINDING]), partition="lab|00")
    k.make("recorded_statistics 1", {}, lambda draft: draft.write_statistics([STATISTIC]), partition="lab|00")
    quarantine.add(lake, [k.ids["r5"]], why="blurred", by="tester")
    label_episodes(lake, [(k.ids["r1"], "failure", "tester", "it toppled")])
    note_refusal(lake, "monday", "", VlawError("damaged", where="here", remedy="mend it"), run_id="inbox")
    with connect(lake) as query:
        counts = {name: query.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in views.DATA_TABLES}
    assert all(counts.values()), counts
    return k


@pytest.fixture
def copy(pristine, tmp_path, monkeypatch):
    """A copy of it, of which every file was verified and is remembered."""
    monkeypatch.setattr(verified, "RACY_NS", -1)
    shutil.copytree(pristine.lake.paths.root, tmp_path / "lake")
    lake = Lake.open(tmp_path / "lake")
    entries = [entry for ref in lake.ledger.artifacts() for entry in ref.versions.values()]
    assert lake.verified.problems(file for entry in entries for file in (*entry["files"], *entry.get("log", ()))) == []
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    return lake


FORGED = {
    "episodes": ("policy_evaluation 1", {"success": True}),
    "reward_scores": ("reward_scores 1", {"p_success": 0.99}),
    "members": ("training_set 1", {"weight": 1.0}),
    "steps": ("real_rollouts 1", {"reward": 0.5}),
    "evaluations": ("world_model_metrics 1", {"value": 99.0}),
    "reads": ("look 1", {"parent_id": "x"}),
    "quarantine": ("quarantine", {"episode_id": "nobody"}),
    "labels": ("labels", {"label": "success"}),
    "import_findings": ("recorded_episodes 1", {"decision": "keep"}),
    "recorded_statistics": ("recorded_statistics 1", {"q99": 99.0}),
    "refused_recordings": ("refused_recordings", {"remedy": "use it"}),
}


def forged(k, lake, table: str) -> tuple[object, Path]:
    """Forge the file of one table. Returns its artifact and the file."""
    name, values = FORGED[table]
    ref = k.refs[name] if name in k.refs else lake.ledger.current(name)
    path = lake.paths.root / ref.versions[table]["files"][0]["path"]
    forge(path, **values)
    return ref, path


def vlaw(*arguments: str):
    return CliRunner().invoke(app, arguments)


def assert_named(error: object, ref, path: Path) -> None:
    said = " ".join(str(error).split())
    assert ref.name in said, said
    assert ref.artifact_id in said, said
    assert str(path) in said, said
    assert "sha256 differs" in said, said


@pytest.fixture(scope="module")
def sound(pristine):
    with connect(pristine.lake) as made:
        yield made


@pytest.mark.parametrize(
    ("table", "when"),
    [
        *((table, "before") for table in FORGED),
        *(
            pytest.param(table, "while it is open", marks=[] if table == "episodes" else [pytest.mark.slow])
            for table in FORGED
        ),
    ],
)
def test_sql_does_not_read_what_was_forged(pristine, sound, copy, table, when):
    early = connect(copy) if when != "before" else None
    if early:
        early.table(f"SELECT * FROM {table}")
    ref, path = forged(pristine, copy, table)
    plain = duckdb.connect().execute(f"SELECT count(*) FROM '{path}'").fetchone()
    assert plain[0] > 0, "DuckDB alone notices nothing"
    others = next(name for name in ("artifacts", "steps", "reads") if name != table)
    with early or connect(copy) as query:
        for sql in (
            f"SELECT * FROM {table}",
            f'SELECT count(*) FROM main."{table.upper()}"',
            f"SUMMARIZE {table}",
            f"WITH x AS (SELECT 1) SELECT (SELECT count(*) FROM memory.{table}) FROM x",
            f"DESCRIBE {table}",
            f"EXPLAIN SELECT * FROM {table}",
            f"SELECT * FROM '{path}'",
            f"SELECT * FROM read_parquet('{path}')",
            f"SELECT 1 WHERE EXISTS (FROM {table})",
            f"SELECT * FROM parquet_metadata('{path}')",
            f"(SELECT 1) UNION ALL (SELECT count(*) FROM artifacts, {table})",
        ):
            with pytest.raises(VlawError) as caught:
                query.table(sql)
            assert_named(caught.value, ref, path)
        assert query.execute(f"SELECT count(*) >= 0 FROM {others}").fetchall() == [(True,)], "other views can be read"
        rewrite(path, (pristine.lake.paths.root / path.relative_to(copy.paths.root)).read_bytes())
        restored = query.table(f"SELECT * FROM {table} ORDER BY ALL")
    assert restored == sound.table(f"SELECT * FROM {table} ORDER BY ALL"), "nothing of the forged file was kept"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM frames",
        "SELECT * FROM episode_reads",
        "SELECT * FROM evaluations",
        "SELECT * FROM in_quarantine",
        "SELECT * FROM reached_by(['x'], NULL)",
    ],
)
def test_what_stands_on_episodes(pristine, copy, sql):
    ref, path = forged(pristine, copy, "episodes")
    with connect(copy) as query:
        with pytest.raises(VlawError) as caught:
            query.table(sql)
        assert_named(caught.value, ref, path)
        rewrite(path, (pristine.lake.paths.root / path.relative_to(copy.paths.root)).read_bytes())
        assert query.table(sql).num_rows >= 0, "it is made anew"


@pytest.mark.parametrize(
    "table",
    [
        table
        if table in ("episodes", "reward_scores", "quarantine", "labels")
        else pytest.param(table, marks=pytest.mark.slow)
        for table in FORGED
    ],
)
def test_every_command_says_so(pristine, copy, tmp_path, table):
    ref, path = forged(pristine, copy, table)
    asked = {
        "sql": ("sql", f"SELECT * FROM {table}"),
        "attach": ("sql", "--attach", str(tmp_path / "c.duckdb")),
        "audit": ("audit", "--all", "--verify"),
    }
    if table in ("episodes", "reward_scores", "members", "reads"):
        asked["impact"] = ("impact", pristine.ids["r0"])
    if table == "episodes":
        asked |= {
            "quarantine": ("quarantine", pristine.ids["r1"], "--why", "x"),
            "question": ("sql", "success_per_task"),
            "label": ("label", pristine.ids["r1"], "success", "--why", "x"),
        }
    for name, arguments in asked.items():
        result = vlaw(*arguments)
        assert result.exit_code == 2, (name, result.output)
        assert_named(result.output.replace(path.relative_to(copy.paths.root).as_posix(), str(path)), ref, path)
    assert not (tmp_path / "c.duckdb").exists()
    assert copy.ledger.artifacts()[-1].asset == Lake.open(copy.paths.root).ledger.artifacts()[-1].asset, (
        "nothing was committed"
    )


@pytest.mark.slow
def test_a_study_is_not_reported_from_what_was_forged(tmp_path, monkeypatch):
    lake = known_study(Lake.open(tmp_path / "lake", create=True)).lake
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    ref = next(
        ref for ref in lake.ledger.artifacts() if ref.asset == "policy_evaluation" and not ref.source_artifact_id
    )
    path = lake.paths.root / ref.versions["episodes"]["files"][0]["path"]
    forge(path, success=True)
    result = vlaw("report", "study", "tiny", "--out", str(tmp_path / "study.md"))
    assert result.exit_code == 2
    assert_named(result.output, ref, path)
    assert not (tmp_path / "study.md").exists()


def test_an_edge_that_was_forged(pristine, copy):
    ref = pristine.refs["policy_evaluation 1"]
    path = copy.paths.root / ref.versions["edges"]["log"][0]["path"]
    forge_edge(path)
    for ask in (
        lambda: connect(copy.paths.root).table("SELECT count(*) FROM edges"),
        lambda: connect(copy.paths.root).table("SELECT count(*) FROM episode_reads"),
        lambda: Lake.open(copy.paths.root).ledger.edge_rows(ref.artifact_id),
        lambda: impact(Lake.open(copy.paths.root), pristine.ids["r0"]),
    ):
        with pytest.raises(VlawError, match=r"edges: content changed \(sha256 differs\)") as caught:
            ask()
        assert str(path) in str(caught.value)
    result = vlaw("audit", "--all", "--verify", "--json")
    assert result.exit_code == 2
    assert any(path.name in line and ref.artifact_id in line for line in json.loads(result.stdout)["problems"])


@pytest.mark.parametrize("what", ["a row", "its file", "a link", "links made anew", "the seal"])
def test_a_ledger_that_was_forged(pristine, copy, what, tmp_path):
    """A row's own digests are under the seal: whoever changes a file and its row is found out."""
    chain = copy.paths.chain
    path = copy.paths.root / json.loads(chain.read_bytes().splitlines()[3])["log"]["path"]
    if what == "a row":
        rewrite(path, path.read_bytes().replace(b"abc", b"abd"))  # the code revision
    elif what == "its file":
        path = copy.paths.root / json.loads(chain.read_bytes().splitlines()[3])["files"][0]["path"]
        rewrite(path, bytes(reversed(path.read_bytes())))
    else:
        path = copy.paths.seal if what == "the seal" else chain
        lines = chain.read_bytes().splitlines(keepends=True)
        if what == "a link":
            lines[3] = lines[3].replace(b'"size":', b'"size":1', 1)
        elif what == "links made anew":
            del lines[-1]
        chain.write_bytes(b"".join(lines))
        if what == "the seal":
            path.write_text(path.read_text().replace('"version": ', '"version":  '))
    for arguments in (
        ("sql", "SELECT count(*) FROM artifacts"),
        ("sql", "--attach", str(tmp_path / "c.duckdb")),
        ("impact", pristine.ids["r0"]),
    ):
        result = vlaw(*arguments)
        assert result.exit_code == 2, result.output
        assert path.name in result.output, result.output
        assert "ledger" in result.output


def test_a_tail_that_is_not_sealed_yet_can_be_read(copy, monkeypatch, pristine):
    """A run that was killed right after its commit."""
    monkeypatch.setattr("vlaw_assets.lake.seal.extend", lambda _paths: 0)
    quarantine.add(copy, [pristine.ids["r4"]], why="blurred", by="tester")
    with connect(copy.paths.root) as query:
        assert query.execute("SELECT count(DISTINCT artifact_id) FROM quarantine").fetchall() == [(2,)]


def test_the_whole_lake_is_audited(copy):
    assert json.loads(vlaw("audit", "--all", "--verify", "--json").stdout)["problems"] == []
    rows = json.loads(vlaw("audit", "--all", "--json").stdout)["artifacts"]
    assert len(rows) == len({(ref.asset, ref.partition) for ref in copy.ledger.artifacts()})
    chain = copy.paths.chain.read_bytes()
    copy.paths.chain.write_bytes(chain.replace(b'"size":', b'"sizE":', 1))
    result = vlaw("audit", "--all", "--verify")
    assert result.exit_code == 2
    assert "ledger.chain: line 1 was changed" in result.output
    for wrong in ((), ("policy", "--all"), ("--all", "--replay")):
        assert vlaw("audit", *wrong).exit_code == 2


def test_a_superseded_artifact_is_audited_too(copy, pristine):
    old = copy.ledger.current("quarantine")
    quarantine.add(copy, [pristine.ids["r4"]], why="blurred", by="tester")
    path = copy.paths.root / old.versions["quarantine"]["files"][0]["path"]
    forge(path, why="clear")
    result = vlaw("audit", "--all", "--verify")
    assert result.exit_code == 2
    assert_named(result.output.replace(path.relative_to(copy.paths.root).as_posix(), str(path)), old, path)


def test_a_forged_file_that_is_remembered_under_an_old_fingerprint(pristine, copy):
    """The memory of another lake, or of the file that was there before, vouches for nothing."""
    _, path = forged(pristine, copy, "episodes")
    memory = memory_of(copy.paths.root)
    known_lines = memory.read_bytes()
    entries = [file for ref in copy.ledger.artifacts() for entry in ref.versions.values() for file in entry["files"]]
    for content in (known_lines, known_lines * 2, b""):
        memory.write_bytes(content)
        assert any(path.name in line for line in Verified(copy.paths.root).problems(entries))
