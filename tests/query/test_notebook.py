"""docs/questions.ipynb: ten questions, each answered with rows and a plot of them, on the smallest lake there is."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import nbformat
import pytest
from smoke_place import smoke_place

from vlaw_assets.query import connect

NOTEBOOK = Path(__file__).parents[2] / "docs" / "questions.ipynb"
QUESTIONS = 10
BEFORE = """
%config InlineBackend.close_figures = False
_counted, _ask = [], ask
def ask(*arguments, **options):
    rows = _ask(*arguments, **options)
    _counted.append(len(rows))
    return rows
"""
"""Put behind the first cell: notes how many rows each answer has, and keeps the figures."""
AFTER = """
import json
def shown(axes):
    points = [len(line.get_xdata()) for line in axes.lines]
    areas = [abs(patch.get_extents().width * patch.get_extents().height) for patch in axes.patches]
    return int(sum(points) + sum(area > 0 for area in areas))
print(json.dumps([_counted, [[shown(axes) for axes in plt.figure(number).axes] for number in plt.get_fignums()]]))
"""
"""Put at the end: prints the numbers of rows, and of each figure how many points and areas its axes show."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def statements(notebook) -> list[str]:
    """The SQL of every question, in order."""
    calls = [
        node
        for cell in notebook.cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ask"
    ]
    return [call.args[0].value for call in calls]


def test_the_notebook_is_valid_and_has_no_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    titles = [cell.source.partition("\n")[0] for cell in notebook.cells if cell.source.startswith("## ")]
    assert [title.split(". ")[0] for title in titles] == [f"## {number}" for number in range(1, QUESTIONS + 1)]


def test_every_question_has_rows(place, notebook):
    asked = statements(notebook)
    assert len(asked) == QUESTIONS + 1, "and one that says what the lake holds"
    with connect(place.lake) as query:
        assert [sql for sql in asked if not query.table(sql).num_rows] == []


@pytest.mark.slow
def test_the_whole_notebook_runs_and_every_plot_shows_something(place, notebook, monkeypatch, tmp_path):
    client = pytest.importorskip("nbclient")
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    first = next(number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    run = nbformat.from_dict(notebook)
    run.cells.insert(first + 1, nbformat.v4.new_code_cell(BEFORE))
    run.cells.append(nbformat.v4.new_code_cell(AFTER))
    client.NotebookClient(run, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    [printed] = [output.text for output in run.cells[-1].outputs if output.output_type == "stream"]
    counted, shown = json.loads(printed)
    assert len(counted) == QUESTIONS
    assert all(counted)
    assert len(shown) == QUESTIONS
    assert all(sum(axes) for axes in shown), shown
    told = [
        cell for cell in run.cells if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    assert len(told) == QUESTIONS
    warned = [o.text for cell in run.cells for o in cell.get("outputs", []) if o.get("name") == "stderr"]
    assert not warned
