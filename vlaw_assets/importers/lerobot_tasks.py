"""Instructions of a LeRobot dataset: the task table, and what the rows and the index of an episode say together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers.files import BROKEN, Folder, shown
from vlaw_assets.importers.findings import Fault
from vlaw_assets.importers.lerobot_index import MAX_TEXT
from vlaw_assets.importers.tables import Table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

TABLE, LINES = "meta/tasks.parquet", "meta/tasks.jsonl"
MAX_TASKS = 10**6
UNNAMED_INDEX = "__index_level_0__"


def read_tasks(folder: Folder, version: int) -> tuple[dict[int, str], str]:
    """{task_index: instruction, '' where the table has none}, and where they were found, for people."""
    if version == 2:
        rows = ((found.get("task_index"), found.get("task")) for found in folder.json_lines(LINES, what="task table"))
        return _table(rows, str(folder.root / LINES)), "task"
    where = str(folder.root / TABLE)
    with Table(folder, TABLE, what="task table", most_rows=MAX_TASKS) as table:
        column = _text_column(table.schema, where)
        found = table.read(list(dict.fromkeys(["task_index", column, *(["task"] if "task" in table.names else [])])))
    try:
        numbers, texts = found["task_index"].to_pylist(), found[column].to_pylist()
        others = found["task"].to_pylist() if "task" in found.column_names else texts
    except (ValueError, OverflowError) as error:
        raise VlawError(f"the task table cannot be read: {str(error)[:160]}", where=where, remedy=BROKEN) from error
    for row, (text, other) in enumerate(zip(texts, others, strict=True)):
        if text != other:
            raise VlawError(
                f"the task table has two texts for row {row}: {shown(text)} ({column}) and {shown(other)} (task)",
                where=where,
                remedy="Keep the one that was said, with LeRobot's own tools.",
            )
    return _table(zip(numbers, texts, strict=True), where), column


def _text_column(schema: pa.Schema, where: str) -> str:
    """The column that holds the text: the table's index as pandas says, else `task`, else the only one with texts."""
    import pyarrow as pa

    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    if "task_index" not in schema.names:
        raise VlawError("the task table has no task_index", where=where, remedy=BROKEN)
    for name in (*_pandas_index(schema), UNNAMED_INDEX, "task"):
        if name in texts and schema.names.count(name) == 1:
            return name
    if len(texts) != 1:
        raise VlawError(
            f"it is unclear which column of the task table is the instruction: {', '.join(texts) or 'none is a text'}",
            where=where,
            remedy="LeRobot keeps it in the table's index: name that column 'task'.",
        )
    return texts[0]


def _pandas_index(schema: pa.Schema) -> list[str]:
    try:
        found = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    except (ValueError, RecursionError):
        return []
    names = found.get("index_columns") if isinstance(found, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _table(rows: Iterable[tuple[Any, Any]], where: str) -> dict[int, str]:
    tasks: dict[int, str] = {}
    for row, (number, text) in enumerate(rows):
        if isinstance(number, bool) or not isinstance(number, int) or len(tasks) > MAX_TASKS:
            raise VlawError(f"task_index is {shown(number)} in row {row}", where=where, remedy=BROKEN)
        if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
            raise VlawError(f"task {number} is {shown(text)}, which is no instruction", where=where, remedy=BROKEN)
        said = (text or "").strip()
        if tasks.setdefault(number, said) != said:
            raise VlawError(
                f"task {number} is there twice, as {shown(tasks[number])} and as {shown(said)}",
                where=where,
                remedy="Keep the right one, with LeRobot's own tools.",
            )
    return tasks


def instructions(
    numbers: np.ndarray | None, tasks: Mapping[int, str], index: Sequence[str], others: Sequence[str]
) -> list[str]:
    """All instructions of an episode, the one that its first rows carry first; [] where it has none.

    Args:
        numbers: (rows,) task_index of its rows; None where they have none.
        index: those that the episode index gives it.
        others: those of its own language columns.

    Raises `Fault` where the rows name a task that the table lacks, or one that the index does not give.
    """
    found: list[str] = []
    if numbers is not None:
        # In the order in which they appear.
        places = np.sort(np.unique(numbers, return_index=True)[1])
        for row, number in ((int(place), int(numbers[place])) for place in places):
            if number not in tasks:
                raise Fault(f"row {row} names task {number}, which the task table lacks", row, "instruction")
            text = tasks[number]
            if text and index and text not in index:
                raise Fault(
                    f"row {row} says {shown(text)} (task {number}), the episode index says "
                    f"{', '.join(shown(one) for one in index[:4])}",
                    row,
                    "instruction",
                )
            if text:
                found.append(text)
    # What an episode's own columns say in other words comes last; first only where nothing else says anything.
    return list(dict.fromkeys([*found, *index, *others]))
