"""Audit, impact and SQL on a ledger of 10^6 episodes: seconds, next to their limits and to plain DuckDB.

    python benchmarks/ledger.py [--full] [--lake DIR] [--keep] [--runs 5] [--seed 0]

Fills a real lake without running a model (common/synthetic_ledger.py), asserts that every answer is the one known by
construction, and measures. Default: a small lake (seconds); --full: 10^6 episodes, 4 x 10^7 step rows, 30 iterations,
10^7 member rows (minutes, 3 GB of disk, removed afterwards unless --keep). With --lake an earlier --keep is used again.

"first" is the first call in this process, "median" that of the next --runs calls, "CPU" the seconds of both cores that
such a call took (less than the wall clock says where the machine is busy with something else). Each call opens the lake
anew, but for the questions in SQL: these are asked on an open connection. The operating system's file cache is warm, as
it is after the lake was written. Plain DuckDB: the same rows as one bare Parquet file per table, the same threads,
asked the same question. Commits are measured on two lakes in turn: one with a single iteration, one with all.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from common.bare_files import Bare, write_bare
from common.known_answers import check_audit, check_impact, check_success, subjects
from common.limits import options
from common.synthetic_answers import EXPERIMENT, FULL, TASKS, Known, Size, key
from common.synthetic_ledger import Generator, generate
from common.timing import Table, measured

from vlaw_assets.lake import Identity, Lake
from vlaw_assets.query import connect, read_question

SQL = Path(__file__).parent.parent / "sql"
LIMITS = {"audit": 2.0, "impact": 1.0, "success table": 0.5, "watch": 2.0}
"""Seconds."""
GROWTH = 1.2
"""Most that a commit may cost after the last iteration, next to after the first."""

AUDIT_IN_SQL = """
WITH closure AS ({closure})
SELECT 'episodes' AS what, purpose, task, success::VARCHAR AS outcome, count(*) AS count, sum(num_steps) AS steps
FROM episodes WHERE artifact_id IN (SELECT artifact_id FROM closure) GROUP BY ALL
UNION ALL
SELECT m.asset, m.source, e.task, e.success::VARCHAR, count(*), sum(m.weight)
FROM members m JOIN episodes e ON e.artifact_id = m.owner AND e.episode_id = m.episode_id
WHERE m.artifact_id IN (SELECT artifact_id FROM closure) AND m.iteration = $iteration GROUP BY ALL
"""
"""What `audit` tells, from the rows: those of the last training set alone are joined, to be fair to DuckDB."""
LOOKUPS = (
    "SELECT artifact_id, episode_id FROM episodes WHERE episode_id = $episode_id",
    "SELECT artifact_id, episode_id FROM episodes WHERE start_episode_id = $episode_id",
    "SELECT artifact_id, episode_id, owner FROM reward_scores WHERE episode_id = $episode_id",
    "SELECT artifact_id, episode_id, owner, weight FROM members WHERE episode_id = $episode_id",
    "SELECT * FROM edges",
)
"""What `impact` has to look up, in plain SQL: the rows that name the episode, and all edges."""
DATASETS = "SELECT iteration, position, weight FROM members WHERE episode_id = $episode_id ORDER BY iteration"
STEPS_OF_A_TASK = """SELECT count(*) AS n FROM steps s JOIN episodes e USING (artifact_id, episode_id)
WHERE e.task = $task AND s.iteration = $iteration"""
STEPS = "SELECT step, state, action, reward FROM steps WHERE episode_id = $episode_id ORDER BY step"


def text_of(name: str) -> str:
    return read_question(SQL / f"{name}.sql")[1]


def vlaw(lake: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A fresh `vlaw` process. Raises CalledProcessError."""
    program = (
        "import sys; from vlaw_assets.cli import app; sys.argv[0] = 'vlaw'; app()"  # the script may not be on PATH
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "VLAW_LAKE": str(lake)},
        text=True,
        check=True,
        capture_output=True,
    )


def measure_audit(table: Table, root: Path, size: Size, bare: Bare) -> None:
    from vlaw_assets.lineage.closure import audit_of

    def audit() -> dict[str, Any]:
        lake = Lake.open(root, create=False)
        return audit_of(lake, lake.ledger.require("policy", key(size.iterations)))

    check_audit(audit(), size)
    words = ("audit", "policy", EXPERIMENT, str(size.iterations), "--json")
    check_audit(json.loads(vlaw(root, *words).stdout), size)
    sql = AUDIT_IN_SQL.format(closure=text_of("closure").rstrip().rstrip(";").rpartition("ORDER BY")[0])
    asked = {"experiment": EXPERIMENT, "iteration": size.iterations}
    table.time("audit of the last policy", audit, limit=LIMITS["audit"], bare=lambda: bare.ask(sql, **asked))
    table.time("  the same, a fresh `vlaw audit` process", lambda: vlaw(root, *words), limit=LIMITS["audit"])
    table.time("  a fresh `vlaw --help` process", lambda: vlaw(root, "--help"))


def measure_impact(table: Table, root: Path, size: Size, bare: Bare) -> None:
    from vlaw_assets.lineage.impact import impact

    for name, (episode, asset, iteration, accepted) in subjects(Lake.open(root, create=False), size).items():

        def found(episode: str = episode) -> Any:
            return impact(Lake.open(root, create=False), episode)

        check_impact(found(), size, asset, iteration, accepted=accepted)
        table.time(
            f"impact of {name}",
            found,
            limit=LIMITS["impact"],
            bare=lambda episode=episode: [bare.ask(sql, episode_id=episode) for sql in LOOKUPS],
        )
    episode = subjects(Lake.open(root, create=False), size)["a real success of iteration 01"][0]
    table.time("  the same, a fresh `vlaw impact` process", lambda: vlaw(root, "impact", episode, "--json"))


def measure_watch(table: Table, root: Path, size: Size) -> None:
    """Pages of episodes: the lake has no frames, so this is what finding and telling costs, without clips."""
    episode = subjects(Lake.open(root, create=False), size)["a real success of iteration 01"][0]
    for name, words in {
        "one episode": (episode,),
        "the last policy": ("policy", EXPERIMENT, str(size.iterations)),
    }.items():
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.html"

            def written(words: tuple[str, ...] = words, page: Path = page) -> None:
                vlaw(root, "watch", *words, "--out", str(page))

            table.time(f"a page of {name}, a fresh `vlaw watch`", written, limit=LIMITS["watch"])
            shown = json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])
            wanted = 1 if len(words) == 1 else min(60, size.evaluation)
            assert len(shown["tiles"]) == wanted, shown["cut"]
            assert words[0] in (shown["episodes"][0]["id"], "policy")


def measure_sql(table: Table, root: Path, size: Size, bare: Bare) -> None:
    """Each question on an open connection, next to the same on bare files; then with opening."""
    lake = Lake.open(root, create=False)
    named, known = subjects(lake, size), Known(size)
    episode, middle = named["a real success of iteration 01"][0], (size.iterations + 1) // 2
    of_task = (size.episodes - 2 * size.corpus - size.evaluation) // size.iterations // len(TASKS)
    questions: dict[str, tuple[str, dict[str, Any], Callable[[pa.Table], Any]]] = {
        "success table": (text_of("success_per_task"), {}, lambda rows: check_success(rows.to_pylist(), size)),
        "datasets of one episode": (
            DATASETS,
            {"episode_id": episode},
            lambda rows: _equal(rows["iteration"].to_pylist(), list(range(1, size.iterations + 1))),
        ),
        "datasets of a failure": (
            DATASETS,
            {"episode_id": named["a real failure of iteration 01"][0]},
            lambda rows: _equal((rows["iteration"].to_pylist(), rows["weight"].to_pylist()), ([1], [0.0])),
        ),
        "steps of one episode": (
            STEPS,
            {"episode_id": episode},
            lambda rows: _equal(rows["step"].to_pylist(), list(range(size.rows - (5 if size.rows > 10 else 0)))),
        ),
        "members of the last dataset": (
            text_of("dataset_members"),
            {"experiment": EXPERIMENT, "iteration": size.iterations},
            lambda rows: _equal(sum(rows["episodes"].to_pylist()), known.members(size.iterations)),
        ),
        "count of all steps": (
            "SELECT count(*) AS n FROM steps",
            {},
            lambda rows: _equal(rows["n"].to_pylist(), [size.steps]),
        ),
        "steps of a task in one iteration": (
            STEPS_OF_A_TASK,
            {"task": "book", "iteration": middle},
            lambda rows: _equal(rows["n"].to_pylist(), [of_task * size.rows]),
        ),
    }
    table.time("open the lake", lambda: len(Lake.open(root, create=False).ledger.artifacts()))
    table.time("open the lake and connect", lambda: connect(Lake.open(root, create=False)).close())
    with connect(lake) as query:
        for name, (sql, parameters, right) in questions.items():
            right(query.table(sql, parameters))
            right(bare.ask(sql, **parameters))
            table.time(
                name,
                lambda sql=sql, given=parameters: query.table(sql, given),
                limit=LIMITS.get(name, 0.0),
                bare=lambda sql=sql, given=parameters: bare.ask(sql, **given),
            )

    def anew() -> None:
        with connect(Lake.open(root, create=False)) as query:
            query.table(text_of("success_per_task"))

    table.time("  success table, with opening and connecting", anew, limit=LIMITS["success table"])
    words = ("sql", str(SQL / "success_per_task.sql"), "--json")
    check_success(json.loads(vlaw(root, *words).stdout), size)
    table.time("  the same, a fresh `vlaw sql` process", lambda: vlaw(root, *words))


def probe(lake: Lake, number: int) -> None:
    """One more partition, the same size whatever the lake holds: it reads the foundation and writes three tables."""
    parents = {name: lake.ledger.require(name) for name in ("expert_demonstrations", "base_policy", "autoencoder")}
    identity = Identity(
        kind="probe",
        code="0" * 64,
        recipe=json.dumps({"probe": number}),
        parents=tuple((role, ref.content_digest) for role, ref in parents.items()),
    )
    with lake.commit(asset="probe", partition=f"probe|{number:02d}", identity=identity, run_id="probe") as draft:
        for role, ref in parents.items():
            draft.read(ref, role)
        (draft.checkpoint_dir() / "config.json").write_text(json.dumps({"probe": number}))
        draft.write_scores([{"episode_id": f"probe-{index}", "p_success": index / 100} for index in range(100)])
        draft.write_evaluations([{"task": task, "trials": 10, "successes": 5} for task in TASKS])
    assert lake.ledger.current("probe", f"probe|{number:02d}") == draft.ref


def measure_commits(table: Table, first: Path, last: Path, runs: int) -> None:
    """The same commit on a lake with one iteration and on one with all, in turn: on lakes kept open, then opened
    anew."""
    lakes = [Lake.open(path) for path in (first, last)]
    numbers = itertools.count(max(sum(ref.asset == "probe" for ref in lake.ledger.artifacts()) for lake in lakes))
    commit_in_turn(table, [lambda number, lake=lake: probe(lake, number) for lake in lakes], numbers, runs, "", GROWTH)
    anew = [lambda number, path=path: probe(Lake.open(path), number) for path in (first, last)]
    commit_in_turn(table, anew, numbers, runs, ", with opening", 0.0)


def commit_in_turn(
    table: Table, commits: list[Callable[[int], None]], numbers: Iterator[int], runs: int, what: str, growth: float
) -> None:
    """Prints what a commit costs on either lake."""
    spent: list[list[tuple[float, float]]] = [[], []]
    for number in itertools.islice(numbers, runs + 1):
        for commit, found in zip(commits, spent, strict=True):
            found.append(measured(lambda commit=commit, number=number: commit(number)))
    before, after = (statistics.median(wall for wall, _ in found[1:]) for found in spent)
    table.line(f"commit after one iteration{what}", spent[0][0][0], spent[0][1:])
    table.line(f"commit after all{what}: {after / before:.2f}x", spent[1][0][0], spent[1][1:], growth * before)


def size_on_disk(folder: Path) -> float:
    """GB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def _equal(got: Any, wanted: Any) -> None:
    assert got == wanted, (got, wanted)


@contextlib.contextmanager
def place(folder: Path | None, *, keep: bool) -> Iterator[Path]:
    """The folder to work in; removed at the end unless it is to be kept or was there before."""
    root = folder or Path(tempfile.mkdtemp(prefix="vlaw-ledger-"))
    there = folder is not None and (folder / "done").exists()
    try:
        yield root
    finally:
        if not (keep or there):
            shutil.rmtree(root, ignore_errors=True)


def prepare(root: Path, size: Size, seed: int) -> None:
    """The two lakes and the bare files, unless they are there."""
    if (root / "done").exists():
        return
    began = time.perf_counter()
    (root / "bare").mkdir(parents=True)
    generate(Lake.open(root / "first"), replace(size, iterations=1), seed)
    generator: Generator = generate(
        Lake.open(root / "lake"),
        size,
        seed,
        report=lambda text: print(f"{time.perf_counter() - began:5.0f} s  {text}", flush=True),
    )
    rows = dict(write_bare(generator.lake, root / "bare"))
    assert (rows["episodes"], rows["steps"], rows["members"]) == (
        size.episodes,
        size.steps,
        Known(size).all_members(),
    ), rows
    (root / "done").write_text(json.dumps(rows))
    print(
        f"{time.perf_counter() - began:5.0f} s  generated; most memory "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


def main() -> int:
    """Generates and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="10^6 episodes; default a small lake")
    parser.add_argument("--lake", type=Path, default=None, help="work in this folder; default a temporary one")
    parser.add_argument("--keep", action="store_true", help="do not remove it")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = options(parser, runs=3)
    size = FULL if args.full else Size()
    with place(args.lake, keep=args.keep) as root:
        prepare(root, size, args.seed)
        print(
            f"{size.episodes:,} episodes, {size.steps:,} step rows, {Known(size).all_members():,} member rows, "
            f"{size.iterations} iterations; lake {size_on_disk(root / 'lake'):.2f} GB, bare "
            f"{size_on_disk(root / 'bare'):.2f} GB"
        )
        table, bare = Table(args.runs), Bare(root / "bare")
        measure_audit(table, root / "lake", size, bare)
        measure_impact(table, root / "lake", size, bare)
        measure_watch(table, root / "lake", size)
        measure_sql(table, root / "lake", size, bare)
        measure_commits(table, root / "first", root / "lake", 2 * args.runs + 1)
        print(f"load of the machine: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores (1 is this program alone)")
        print("all answers are as constructed")
    return table.limits.status()


if __name__ == "__main__":
    sys.exit(main())
