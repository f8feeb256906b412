"""Many Dagster runs at once, recorded in SQLite and in Postgres: how many end well, how long it takes, and how many
meet a lock.

    python benchmarks/run_storage.py [--runs 32]

Every run is a process of its own, forked when all is imported, that executes a job of one step on the instance of
DAGSTER_HOME. Postgres needs the extra `postgres` and a server: that of VLAW_POSTGRES, or one that is started here from
Debian's package (as the user postgres where this is root), with its data in a folder that goes again. Without either
only SQLite is measured.
"""

from __future__ import annotations

import argparse
import glob
import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.limits import Limits, options

from vlaw_assets.pipeline import driver

LOCKED = ("database is locked", "deadlock detected", "could not obtain lock", "too many clients")


def one_run(ready: Any, answers: Any, number: int) -> None:
    """Executes a job, and says how it went."""
    import dagster as dg

    @dg.op
    def step(context) -> int:
        for line in range(20):
            context.log.info(f"line {line} of run {number}")
        return number

    @dg.job
    def job() -> None:
        step()

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Dagster's log
    ready.wait()
    try:
        with driver.open_instance() as instance:
            answers.put("ended well" if job.execute_in_process(instance=instance).success else "failed")
    except Exception as error:
        text = str(error).lower()
        answers.put(next((phrase for phrase in LOCKED if phrase in text), f"failed: {type(error).__name__}"))


def measured(runs: int) -> tuple[Counter[str], float, int]:
    """What became of them, seconds, and how many runs the instance has afterwards."""
    with driver.open_instance():
        pass  # tables are there before the race
    fork = multiprocessing.get_context("fork")
    ready, answers = fork.Event(), fork.Queue()
    processes = [fork.Process(target=one_run, args=(ready, answers, number)) for number in range(runs)]
    for process in processes:
        process.start()
    begun = time.perf_counter()
    ready.set()
    said = Counter(answers.get(timeout=600) for _ in processes)
    seconds = time.perf_counter() - begun
    for process in processes:
        process.join()
    with driver.open_instance() as instance:
        return said, seconds, instance.get_runs_count()


@contextmanager
def server() -> Iterator[str]:
    """The address of a Postgres; '' where there is none."""
    given = os.environ.get(driver.POSTGRES, "")
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if importlib.util.find_spec("dagster_postgres") is None or not (given or found):
        yield ""
        return
    if given:
        yield given
        return
    programs = Path(found[-1]).parent
    folder = Path(tempfile.mkdtemp(prefix="vlaw-postgres-"))
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres")
    data = str(folder / "data")

    def call(*words: str) -> None:
        subprocess.run([*user, *words], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    call(str(programs / "initdb"), "-D", data, "-U", "vlaw", "--auth=trust")
    port = 20000 + os.getpid() % 20000
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=300"
    call(str(programs / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", settings, "start")
    try:
        yield f"postgresql+psycopg2://vlaw@127.0.0.1:{port}/postgres"
    finally:
        call(str(programs / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=32)
    runs, limits = options(parser, runs=4).runs, Limits()
    given = os.environ.pop(driver.POSTGRES, None)
    print(f"{runs} runs at once   seconds   recorded   how they ended")
    with tempfile.TemporaryDirectory() as home:
        os.environ["DAGSTER_HOME"] = f"{home}/sqlite"
        show("SQLite", *measured(runs))
        if given:
            os.environ[driver.POSTGRES] = given
        with server() as address:
            if not address:
                print("no Postgres: install the extra `postgres`, and Debian's postgresql or set VLAW_POSTGRES")
                return limits.status()
            os.environ[driver.POSTGRES] = address
            os.environ["DAGSTER_HOME"] = f"{home}/postgres"
            said, seconds, recorded = measured(runs)
            show("Postgres", said, seconds, recorded)
            limits.at_least("runs in Postgres that ended well", said["ended well"], runs)
    return limits.status()


def show(name: str, said: Counter[str], seconds: float, recorded: int) -> None:
    print(f"{name:<16} {seconds:9.1f} {recorded:10}   {', '.join(f'{count} {what}' for what, count in said.items())}")


if __name__ == "__main__":
    sys.exit(main())
