"""A Dagster job whose only step takes long, run by Dagster's multiprocess executor: `python outliving.py HOME NOTE`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import dagster as dg


@dg.op
def long_step() -> None:
    Path(os.environ["NOTE"]).write_text(str(os.getpid()))
    time.sleep(600)


@dg.job(executor_def=dg.multiprocess_executor)
def several_partitions() -> None:
    long_step()


if __name__ == "__main__":
    os.environ["DAGSTER_HOME"], os.environ["NOTE"] = sys.argv[1:]
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(dg.reconstructable(several_partitions), instance=instance)
