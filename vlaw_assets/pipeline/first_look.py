"""The job `first_look`: the foundation and the smallest iteration in one click.

A partition cannot be chosen beforehand for a job of assets, so this one starts two runs of its own, as `vlaw run` does.
This file does without `from __future__ import annotations`: Dagster reads the types of an op's parameters.
"""

import time
from collections.abc import Callable

import dagster as dg

from vlaw_assets.partitions import partition_of
from vlaw_assets.pipeline import driver, progress
from vlaw_assets.pipeline.resources import Workplace

RECIPE = "smoke"
"""Makes every asset in seconds."""


def first_look_job(definitions: Callable[[], dg.Definitions]) -> dg.JobDefinition:
    """`definitions`: those that the jobs are of, which do not exist before this one does."""

    @dg.op(name="foundation_and_smoke", description="Runs the jobs foundation and iteration, as runs of their own.")
    def both(context: dg.OpExecutionContext, workplace: dg.ResourceParam[Workplace]) -> None:
        said = 0.0

        def say(asset: str, partition: str, done: int, total: int, text: str) -> None:
            nonlocal said
            if text in progress.ENDINGS or time.monotonic() - said >= progress.SAY_S:
                said = time.monotonic()
                how_far = text if text in progress.ENDINGS else f"{done} of {total} {text}"
                context.log.info(f"{partition or 'foundation'}  {asset}: {how_far}")

        lake, defs, first = workplace.open_lake(), definitions(), partition_of(RECIPE, 1)
        with driver.alone(lake, RECIPE, holder="the job first_look"), progress.listening(say):
            driver.make_foundation(defs, context.instance, lake)
            done = driver.run_job(defs, context.instance, "iteration", partition=first)
        context.log.info(f"{first}: made {len(done.made)}, found {len(done.reused)}; look at iteration_report")

    @dg.job(
        name="first_look",
        description="A first look in one click: the foundation where it is missing, and smoke|01, every asset of an "
        "iteration at its smallest. Under two minutes on two cores. Its figures mean nothing.",
    )
    def first_look() -> None:
        both()

    return first_look
