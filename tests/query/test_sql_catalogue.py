"""`vlaw sql --attach`: a catalogue that plain DuckDB opens, with the same answers as the locked connection."""

from __future__ import annotations

import json

import duckdb
import pytest
from known_lake import known
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.query import connect
from vlaw_assets.query.catalogue import write_catalogue
from vlaw_assets.query.questions import questions, read_question
from vlaw_models.errors import VlawError

VIEWS = (
    "episodes",
    "steps",
    "reward_scores",
    "members",
    "evaluations",
    "reads",
    "quarantine",
    "labels",
    "label_history",
    "import_findings",
    "recorded_statistics",
    "refused_recordings",
    "frames",
    "artifacts",
    "edges",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    k = known(Lake.open(folder / "lake"))
    finding = {"episode": 3, "row": 7, "rule": "row_spacing", "value": "a row is late", "decision": "excluded"}
    k.make("recorded_episodes 1", {}, lambda draft: draft.write_findings([finding]), partition="lab|00")
    label_episodes(k.lake, [(k.ids["d0"], "failure", "ann", "it melts")])
    return k, write_catalogue(k.lake, folder / "vlaw.duckdb")


def test_same_rows_as_the_locked_connection(made, tmp_path, monkeypatch):
    k, file = made
    monkeypatch.chdir(tmp_path)  # views hold absolute paths
    with connect(k.lake) as query, duckdb.connect(str(file), read_only=True) as plain:
        for view in VIEWS:
            sql = f"SELECT * FROM {view} ORDER BY ALL"
            assert plain.sql(sql).to_arrow_table() == query.table(sql), view
        assert plain.execute("SELECT count(*) FROM frames").fetchone()[0] > 0
    assert [entry.name for entry in sorted(file.parent.iterdir())] == ["lake", "vlaw.duckdb"], "nothing else is left"


def test_it_opens_under_another_name(made):
    with duckdb.connect() as plain:
        plain.execute(f"ATTACH '{made[1]}' AS other (READ_ONLY)")
        assert plain.execute("SELECT count(*) FROM other.frames").fetchone()[0] > 0
        plain.execute("USE other")  # macros look for their tables where one is
        assert plain.execute("SELECT count(*) FROM closure(p_experiment := 'vlaw', p_iteration := 1)").fetchone() == (
            8,
        )


def test_every_question_is_a_macro(made):
    k, file = made
    given = {
        "experiment": "vlaw",
        "iteration": 1,
        "episode_id": k.ids["r0"],
        "experiment_a": "vlaw",
        "experiment_b": "vlaw",
        "iteration_a": 0,
        "iteration_b": 1,
    }
    with connect(k.lake) as query, duckdb.connect(str(file), read_only=True) as plain:
        listed = plain.execute("SELECT name, question, parameters, call FROM vlaw_questions ORDER BY name").fetchall()
        assert [row[0] for row in listed] == [question.name for question in questions()]
        full = 0
        for question in questions():
            values = {name: given[name] for name in question.parameters if name in given}
            arguments = ", ".join(f"p_{name} := ${name}" for name in values)
            rows = plain.sql(f"FROM {question.name}({arguments})", params=values).to_arrow_table().to_pylist()
            # compared as sets: rows that a question's ORDER BY does not tell apart may come in any order
            assert set(map(repr, rows)) == set(map(repr, query.table(question.sql, values).to_pylist())), question.name
            full += bool(rows) and not question.name.startswith("study_")
        others = [row for row in listed if not row[0].startswith("study_")]  # those of studies: test_study_report.py
        assert full >= len(others) - 2, "nearly all have rows here"


def test_it_says_of_which_lake_and_moment_it_is(made, tmp_path):
    k, file = made
    early = write_catalogue(k.lake, tmp_path / "early.duckdb", as_of=3)
    for path, last in ((file, len(k.lake.ledger.artifacts()) - 1), (early, 3)):
        with duckdb.connect(str(path), read_only=True) as plain:
            about = plain.execute("SELECT lake, as_of_sequence, as_of_artifact_id FROM vlaw_catalogue").fetchall()
            assert about == [(str(k.lake.paths.root), last, k.lake.ledger.artifacts()[last].artifact_id)]
            assert plain.execute("SELECT max(sequence) FROM artifacts").fetchone() == (last,)


def test_it_replaces_a_catalogue_and_nothing_else(made, tmp_path):
    k, _ = made
    file = write_catalogue(k.lake, tmp_path / "c.duckdb", as_of=0)
    write_catalogue(k.lake, file)
    with duckdb.connect(str(file), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM artifacts").fetchone() == (len(k.lake.ledger.artifacts()),)
    (tmp_path / "notes.txt").write_text("mine")
    with duckdb.connect(str(tmp_path / "mine.duckdb")) as mine:
        mine.execute("CREATE TABLE x AS SELECT 1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("notes.txt", "mine.duckdb", "folder", "dangling"):
        with pytest.raises(VlawError, match="not a catalogue"):
            write_catalogue(k.lake, tmp_path / name)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(VlawError, match="not there"):
        write_catalogue(k.lake, tmp_path / "no" / "c.duckdb")
    with pytest.raises(VlawError, match="inside the lake"):
        write_catalogue(k.lake, k.lake.paths.root / "c.duckdb")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "c.duckdb",
        "dangling",
        "folder",
        "mine.duckdb",
        "notes.txt",
    ]


@pytest.mark.slow
def test_on_the_command_line(made, tmp_path, monkeypatch):
    k, _ = made
    monkeypatch.setenv("VLAW_LAKE", str(k.lake.paths.root))

    def vlaw(*arguments):
        return CliRunner().invoke(app, ["sql", *arguments])

    assert [row["name"] for row in json.loads(vlaw("--list", "--json").stdout)] == [q.name for q in questions()]
    listed, every = vlaw("--list").stdout, vlaw("--list", "--all").stdout
    assert "study_time" not in listed
    assert "study_time" in every
    assert "-p experiment=... -p iteration=... [-p asset=...]" in listed
    assert "-p experiment, -p iteration not given" in vlaw("dataset_members").stdout
    assert json.loads(vlaw("SELECT 1 AS x, 2 AS x, 3 AS x_1", "--json").stdout) == [{"x": 1, "x_1": 2, "x_1_1": 3}]
    assert vlaw("SELECT 1 AS x, 2 AS x").stdout.split() == ["x", "x_1", "1", "2"]
    assert b"\r" not in vlaw("SELECT 'a' AS x", "--csv").stdout_bytes
    rows = json.loads(vlaw("dataset_members", "-p", "experiment=vlaw", "-p", "iteration=1", "--json").stdout)
    assert sum(row["episodes"] for row in rows) == 6
    counted = "SELECT count(*) AS n, 'nan'::DOUBLE AS x FROM artifacts"
    assert json.loads(vlaw(counted, "--as-of", "#3", "--json").stdout) == [{"n": 4, "x": "nan"}]
    assert vlaw("--attach", str(tmp_path / "c.duckdb"), "--as-of", "#3").exit_code == 0
    with duckdb.connect(str(tmp_path / "c.duckdb"), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM artifacts").fetchone() == (4,)
    for wrong in (
        (),
        ("SELECT 1", "--list"),
        ("SELECT 1", "--all"),
        ("no_such_question",),
        ("SELECT 1", "--as-of", "2001-01-01"),
        ("SELECT 1", "-p", "x=1"),
        ("DROP TABLE artifacts",),
    ):
        assert vlaw(*wrong).exit_code == 2, wrong


def test_a_file_without_a_question(tmp_path):
    for content, why in (("SELECT 1", "not a question"), (None, "cannot read"), (b"\xff\xfe", "not text")):
        file = tmp_path / "x.sql"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(VlawError, match=why):
            read_question(file)


def test_an_empty_lake(tmp_path):
    file = write_catalogue(Lake.open(tmp_path / "lake"), tmp_path / "c.duckdb")
    with duckdb.connect(str(file), read_only=True) as plain:
        assert plain.execute("SELECT as_of_sequence FROM vlaw_catalogue").fetchall() == [(None,)]
        assert all(plain.execute(f"SELECT count(*) FROM {view}").fetchall() == [(0,)] for view in VIEWS)
