"""A study's rows as a file: the report from it is the report from the lake, in one piece and in several."""

from __future__ import annotations

import duckdb
import pytest
from factories import checkpoint
from known_study import SUCCESS, StudyLake, known_study, shared_study
from report_text import vlaw
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake
from vlaw_assets.query.study_file import write_study_file
from vlaw_assets.reports.study.facts import QUESTIONS, facts_of, facts_of_files
from vlaw_models.errors import VlawError

OF_THE_LAKE = {"definition", "runs", "time", "machine", "promotions", "costs"}
"""Questions about artifacts and clocks, which differ between lakes; what was measured does not."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files of the whole study and of its two seeds, each run in a lake of its own; and the whole one's lake."""
    folder = tmp_path_factory.mktemp("files")
    lakes = {
        name: shared_study(tmp_path_factory, seeds)
        for name, seeds in {"whole": (0, 1), "first": (0,), "second": (1,)}.items()
    }
    return (
        folder,
        {name: write_study_file(k.lake, "tiny", folder / f"{name}.duckdb") for name, k in lakes.items()},
        lakes,
    )


def test_the_report_from_a_file_is_the_report_from_the_lake(made):
    folder, files, lakes = made
    texts = []
    for name, more in (("lake", []), ("file", ["--from", str(files["whole"])])):
        found = vlaw(lakes["whole"], "study", "tiny", "--out", str(folder / name / "study.md"), *more)
        assert found.exit_code == 0, found.output
        texts.append((folder / name / "study.md").read_text())
    assert texts[1] == texts[0].replace("from the lake;", "from the rows in `whole.duckdb`;")
    assert "the rows in" in texts[1]


def test_pieces_answer_as_the_whole_study_does(made):
    _, files, lakes = made
    whole = facts_of(lakes["whole"].lake, "tiny")
    pieces = facts_of_files([files["first"], files["second"]], "tiny")
    assert pieces.definition == whole.definition
    for name in set(QUESTIONS) - OF_THE_LAKE:
        assert pieces.rows[name] == whole.rows[name], name
    assert pieces.missing == whole.missing
    alone = facts_of_files([files["first"]], "tiny")
    assert {seed for _, seed, _ in set(alone.missing) - set(whole.missing)} == {1}, "the definition asks for both seeds"


@pytest.mark.slow
def test_a_partition_of_two_pieces_counts_once(made):
    _, files, lakes = made
    for order in (("whole", "second"), ("second", "whole")):
        found = facts_of_files([files[name] for name in order], "tiny")
        assert found.rows["success"] == facts_of(lakes["whole"].lake, "tiny").rows["success"]


def test_pieces_that_differ_are_refused(made, tmp_path):
    _, files, lakes = made
    other = StudyLake(Lake.open(tmp_path / "other", create=True))
    other.define([])
    write_study_file(other.lake, "tiny", tmp_path / "definition.duckdb")
    with pytest.raises(VlawError, match=r"both have study\[tiny\|00\], and not the same"):
        facts_of_files([files["first"], tmp_path / "definition.duckdb"], "tiny")
    write_study_file(lakes["first"].lake, "tiny", tmp_path / "again.duckdb")
    with pytest.raises(VlawError, match="both are of one lake"):
        facts_of_files([files["first"], tmp_path / "again.duckdb"], "tiny")


@pytest.mark.slow
def test_a_partition_made_differently_is_the_first_file_s_and_said(made, tmp_path, monkeypatch):
    _, files, _ = made
    monkeypatch.setitem(SUCCESS, ("vlaw", 0, 2), "00000000")
    k = known_study(Lake.open(tmp_path / "lake", create=True), (0,))
    other = write_study_file(k.lake, "tiny", tmp_path / "x.duckdb")
    for order, success in (((files["first"], other), 7), ((other, files["first"]), 0)):
        found = facts_of_files(order, "tiny")
        assert found.rate("vlaw", 2, seed=0).successes == success
        assert "(2 artifacts were made in several of them, and differ" in found.source
    assert "differ" not in facts_of_files([files["first"], files["second"]], "tiny").source


@pytest.mark.slow
def test_other_models_to_begin_with_are_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr("known_study.checkpoint", lambda name: checkpoint(f"other {name}"))
    k = known_study(Lake.open(tmp_path / "lake", create=True), (1,))
    other = write_study_file(k.lake, "tiny", tmp_path / "x.duckdb")
    with pytest.raises(VlawError, match="both have base_policy, and not the same") as error:
        facts_of_files([made[1]["first"], other], "tiny")
    assert "first.duckdb" in error.value.where
    assert "x.duckdb" in error.value.where


def test_anyone_asks_the_questions_with_duckdb_alone(made, tmp_path):
    _, files, lakes = made
    moved = tmp_path / "moved elsewhere.duckdb"
    moved.write_bytes(files["whole"].read_bytes())
    with duckdb.connect(str(moved), read_only=True) as connection:
        rows = connection.sql("FROM study_success(p_study := 'tiny')").to_arrow_table().to_pylist()
    assert rows == facts_of(lakes["whole"].lake, "tiny").rows["success"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"", "no rows of a study"),
        (b"not a database at all" * 1000, "no rows of a study"),
    ],
)
def test_what_is_no_such_file_is_refused(made, tmp_path, content, said):
    file = tmp_path / "x.duckdb"
    if content is not None:
        file.write_bytes(content)
    found = vlaw(made[2]["whole"], "study", "tiny", "--out", str(tmp_path / "out.md"), "--from", str(file))
    assert found.exit_code == 2
    assert said in found.output
    assert "vlaw export study tiny" in found.output
    assert not (tmp_path / "out.md").exists()


def test_files_of_other_studies_are_neither_read_nor_replaced(made, tmp_path):
    _, files, lakes = made
    with pytest.raises(VlawError, match="holds study 'tiny'"):
        facts_of_files([files["whole"]], "claims")
    with duckdb.connect(str(tmp_path / "mine.duckdb")) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    before = (tmp_path / "mine.duckdb").read_bytes()
    with pytest.raises(VlawError, match="not a file of a study"):
        write_study_file(lakes["whole"].lake, "tiny", tmp_path / "mine.duckdb")
    assert (tmp_path / "mine.duckdb").read_bytes() == before
    with pytest.raises(VlawError, match="nothing of a study 'claims'"):
        write_study_file(lakes["whole"].lake, "claims", tmp_path / "claims.duckdb")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.duckdb"], "nothing half-written"


def test_the_command_writes_it_and_options_that_do_not_fit_are_refused(made, tmp_path):
    lake = {"VLAW_LAKE": str(made[2]["whole"].lake.paths.root)}

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words], env=lake)

    assert run("export", "study", "tiny", tmp_path / "a.duckdb").exit_code == 0
    assert run("export", "study", "tiny", tmp_path / "a.duckdb").exit_code == 0, "an older one is replaced"
    as_of = run("report", "study", "tiny", "--from", tmp_path / "a.duckdb", "--as-of", "x")
    assert "--as-of is for lakes" in as_of.output
    page = run("report", "vlaw", 1, "--from", tmp_path / "a.duckdb")
    assert "--from is for studies" in page.output
