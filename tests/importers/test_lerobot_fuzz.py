"""Anything anywhere in a dataset's metadata and tables: it is read, kept out or refused, and never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recorded_dataset import CAMERAS, DATA, EPISODE_TABLE, VIDEO, write_lerobot
from recorded_layouts import to_pictures, to_v21

from vlaw_assets.importers.description import Options
from vlaw_assets.importers.lerobot import open_recordings
from vlaw_models.errors import VlawError

HOSTILE = "[/bold]\x1b[31m\u202e{0.__class__}\0../ ☕"
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 3, 2**63, -(2**63) - 1, 10**400),
    *(0.5, -0.0, float("nan"), float("inf"), 1e308),
    *("", " ", "0", "15", "v3.0", "height", HOSTILE, "x" * 5000, "../../etc"),
    *([], [None], [[]], [1, 2, 3], ["a", "b", "c"], [[["deep"]]], [{}]),
    *({}, {"a": None}, {"a": 0, "b": 1, "c": 2}, {"axes": ["height", "width", "channels"]}),
]
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
KINDS: list[tuple[Any, pa.DataType]] = [
    (None, pa.null()),
    (True, pa.bool_()),
    (-1, pa.int8()),
    (2**63, pa.uint64()),
    (0.5, pa.float16()),
    (float("nan"), pa.float64()),
    (1e308, pa.float64()),
    (HOSTILE, pa.string()),
    ("x", pa.large_string()),
    ("x", pa.dictionary(pa.int8(), pa.string())),
    (b"\xff\xfe", pa.binary()),
    (0, pa.timestamp("ns")),
    (2**62, pa.timestamp("s")),
    (1, pa.duration("s")),
    (1, pa.date32()),
    (1, pa.decimal128(38, 10)),
    ([], pa.list_(pa.int64())),
    ([1, None], pa.list_(pa.int64())),
    ([[1.0]], pa.list_(pa.list_(pa.float32()))),
    ([1.0, 2.0], pa.list_(pa.float32(), 2)),
    (["a"], pa.list_(pa.string())),
    ([None], pa.list_(pa.string())),
    ({"a": 1}, pa.struct([("a", pa.int64())])),
    ({"bytes": b"x", "path": "../x"}, PICTURE),
    ([("k", 1)], pa.map_(pa.string(), pa.int64())),
]
"""A value and its type, for columns of every kind."""


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> list[Path]:
    top = tmp_path_factory.mktemp("fuzz")
    made = write_lerobot(top / "v3")
    return [made, to_v21(write_lerobot(top / "v21")), to_pictures(write_lerobot(top / "pictures"))]


def change_json(value: Any, dice: random.Random) -> Any:
    """One node of a JSON value replaced, taken out or doubled."""
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(sorted(value))
        action = dice.random()
        if action < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        if action < 0.2:
            return {**value, dice.choice([HOSTILE[:9], "", "info", "names", key.upper()]): dice.choice(ODD)}
        return {**value, key: change_json(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.6:
        place = dice.randrange(len(value))
        return [*value[:place], change_json(value[place], dice), *value[place + 1 :]]
    return dice.choice(ODD)


def change_table(path: Path, dice: random.Random) -> None:
    table = pq.read_table(path)
    place = dice.randrange(table.num_columns)
    name, action = table.column_names[place], dice.random()
    if action < 0.55:
        value, kind = dice.choice(KINDS)
        table = table.set_column(place, name, pa.array([value] * table.num_rows, kind))
    elif action < 0.65:
        table = table.remove_column(place)
    elif action < 0.72:
        table = table.append_column(name, table.column(place))
    elif action < 0.8:
        table = table.slice(0, dice.randrange(table.num_rows))
    elif action < 0.88:
        table = pa.concat_tables([table, table.slice(dice.randrange(table.num_rows), 1)])
    elif action < 0.94:
        table = table.replace_schema_metadata({"pandas": json.dumps(dice.choice(ODD), default=str)})
    else:
        order = list(range(table.num_rows))
        dice.shuffle(order)
        table = table.take(order)
    pq.write_table(table, path)


def change_bytes(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if dice.random() < 0.3:
        data = data[: dice.randrange(len(data))]
    for _ in range(dice.choice([1, 1, 8, 64])):
        if data:
            data[dice.randrange(len(data))] = dice.randrange(256)
    path.write_bytes(data)


def spoil(root: Path, dice: random.Random) -> str:
    """One or two things are changed; returns what."""
    done = []
    for _ in range(dice.choice([1, 1, 2])):
        path = dice.choice(sorted(path for path in root.rglob("*") if path.is_file()))
        if dice.random() < 0.5:
            path = root / "meta/info.json"
        done.append(str(path.relative_to(root)))
        if dice.random() < 0.15:
            change_bytes(path, dice)
        elif path.suffix == ".json":
            try:
                found = json.loads(path.read_bytes())
            except ValueError:
                continue
            path.write_text(json.dumps(change_json(found, dice)))
        elif path.suffix == ".jsonl":
            lines = path.read_text().splitlines()
            place = dice.randrange(len(lines))
            lines[place] = json.dumps(change_json(json.loads(lines[place]), dice))
            path.write_text("\n".join(lines))
        elif path.suffix == ".parquet":
            try:
                change_table(path, dice)
            except (pa.ArrowException, OSError, ValueError):
                continue
        else:
            change_bytes(path, dice)
    return ", ".join(done)


def attempt(root: Path) -> str:
    """What became of it. Anything but a VlawError is a defect."""
    try:
        recordings = open_recordings(root, Options(image_size=(16, 16)))
    except VlawError as error:
        return "refused" if error.remedy and error.where else "refused without a way out"
    recordings.source_digest()
    found = list(recordings.read(range(len(recordings.index))))
    for one in found:
        assert (one.episode is None) == (one.excluded is not None)
        if one.episode is not None:
            assert np.isfinite(one.episode.states).all()
            assert np.isfinite(one.episode.actions).all()
            assert len(one.episode.images) == len(one.episode.states) == one.episode.num_steps + 1
            json.dumps(one.episode.extra, allow_nan=False)
            one.episode.instruction.encode()
    return "read"


def run(layouts: list[Path], seeds: range, tmp_path: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for seed in seeds:
        dice = random.Random(seed)
        root = Path(shutil.copytree(layouts[seed % len(layouts)], tmp_path / str(seed)))
        done = spoil(root, dice)
        try:
            outcome = attempt(root)
        except Exception as error:
            error.add_note(f"seed {seed}: {done}")
            raise
        counts[outcome] = counts.get(outcome, 0) + 1
        shutil.rmtree(root)
    return counts


@pytest.mark.slow
def test_anything_anywhere(layouts, tmp_path):
    counts = run(layouts, range(48), tmp_path)
    assert set(counts) == {"refused", "read"}
    assert min(counts.values()) > 5


@pytest.mark.slow
def test_anything_anywhere_for_longer(layouts, tmp_path):
    assert set(run(layouts, range(1000, 4000), tmp_path)) == {"refused", "read"}


@pytest.mark.parametrize(
    "name", ["meta/info.json", "meta/tasks.parquet", EPISODE_TABLE, DATA, VIDEO.format(CAMERAS[0])]
)
def test_bytes_of_no_kind(layouts, tmp_path, name):
    root = Path(shutil.copytree(layouts[0], tmp_path / "set"))
    for data in (b"\0", b"PAR1PAR1", b"\xff" * 64, HOSTILE.encode(), b"{" * 10_000):
        (root / name).write_bytes(data)
        assert attempt(root) == ("refused" if name.startswith("meta/") else "read"), "an episode's own file is its own"
