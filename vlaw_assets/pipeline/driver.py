"""Running iterations in this process, on the Dagster instance that the UI shows.

One Dagster run per iteration. A step process of its own costs two seconds of imports, so everything runs in one
process. Nothing here decides what is computed again: an artifact that the ledger has is reused.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import Lake
    from vlaw_assets.lake.durable import FileLock
    from vlaw_assets.recipes.schema import Recipe

DAGSTER_YAML = """\
# Dagster's instance for vlaw: run history, event log and schedules live in this folder (SQLite).
telemetry:
  enabled: false
nux:
  enabled: false
run_coordinator:
  # Earlier iterations of an experiment begin first.
  module: vlaw_assets.pipeline.run_order
  class: InOrder
concurrency:
  # One run at a time in each pool: a model or a simulator wants the whole machine. True without any CLI step.
  # By run: Dagster counts when it launches one, and takes up the next when it is over, however it ended. A run that
  # `vlaw` executes itself is counted, but waits for none.
  pools:
    default_limit: 1
    granularity: run
  runs:
    max_concurrent_runs: 4
    # Iteration 02 reads what 01 leaves.
    tag_concurrency_limits:
      - key: experiment
        value: {applyLimitPerUniqueValue: true}
        limit: 1
      # Of a backfill, until it has asked for 01 too.
      - key: .dagster/vlaw_held
        value: "yes"
        limit: 0
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  max_resume_run_attempts: 0
  poll_interval_seconds: 10
  # For pools of granularity op: without this a killed run keeps its place for ever.
  free_slots_after_run_end_seconds: 60
"""
"""Written into a DAGSTER_HOME that has no dagster.yaml; dagster_home/dagster.yaml is the same text (a test
compares)."""
POSTGRES = "VLAW_POSTGRES"
"""Environment variable: postgresql+psycopg2://user:password@host:port/database, where Dagster keeps its runs then."""
IN_POSTGRES = f"""\
storage:
  # Of all hosts. The address, which holds a password, stays in the environment.
  postgres:
    postgres_url:
      env: {POSTGRES}
"""
"""What that variable adds to DAGSTER_YAML."""


class StageError(Exception):
    """A step failed with something that is not a VlawError: a defect. Carries Dagster's text with the traceback."""


@dataclass(frozen=True)
class Done:
    """One finished Dagster run."""

    run_id: str
    made: tuple[str, ...]
    reused: tuple[str, ...]


def dagster_home() -> Path:
    """DAGSTER_HOME, or dagster_home/ in the working directory; made and configured on first use. Raises VlawError where
    it cannot be written."""
    from vlaw_assets.lake.durable import replace_file

    home = Path(os.environ.get("DAGSTER_HOME") or "dagster_home").expanduser().absolute()
    config = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        given = config.read_text(encoding="utf-8") if config.exists() else ""
        if (text := _configured(given, config)) != given:
            replace_file(config, text)
    except OSError as error:
        raise VlawError(
            f"the Dagster home cannot be written: {error.strerror}",
            where=str(home),
            remedy="Set DAGSTER_HOME to a folder that you can write to.",
        ) from error
    return home


def _configured(given: str, where: Path) -> str:
    """The dagster.yaml that goes with the environment: what vlaw wrote gets its lines for Postgres, what a person wrote
    stays. Raises VlawError where the two contradict each other."""
    in_postgres, asked = f"env: {POSTGRES}" in given, bool(os.environ.get(POSTGRES))
    if in_postgres and not asked:
        raise VlawError(
            f"runs of this home are in Postgres, and {POSTGRES} is not set",
            where=str(where),
            remedy=f"Set {POSTGRES}, or choose another DAGSTER_HOME.",
        )
    if asked and find_spec("dagster_postgres") is None:
        raise VlawError(
            f"{POSTGRES} is set, and dagster-postgres is not installed",
            where=str(where),
            remedy="pip install 'vlaw[postgres]'",
        )
    if asked and not os.environ[POSTGRES].startswith("postgresql+psycopg2://"):
        raise VlawError(
            f"{POSTGRES} is not of the form postgresql+psycopg2://user:password@host:port/database",
            where=str(where),
            remedy="Begin it with postgresql+psycopg2:// (the driver that dagster-postgres brings).",
        )
    if not asked or in_postgres:
        return given or DAGSTER_YAML
    if given not in ("", DAGSTER_YAML):
        raise VlawError(
            f"{POSTGRES} is set, and a dagster.yaml of your own does not use it",
            where=str(where),
            remedy=f"Add these lines to it:\n{IN_POSTGRES}",
        )
    return DAGSTER_YAML + IN_POSTGRES


def open_instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME."""
    import dagster as dg

    os.environ["DAGSTER_HOME"] = str(dagster_home())
    return dg.DagsterInstance.get()


def run_job(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    *,
    partition: str = "",
    only: Sequence[str] = (),
    force: bool = False,
) -> Done:
    """Executes a job for one partition in this process.

    Raises VlawError (the stage's own), StageError, or KeyboardInterrupt where a person or a signal ended the run.
    """
    import dagster as dg

    from vlaw_assets.pipeline import liveness, partitions

    if partition:
        partitions.register(instance, [partition])
    definition = defs.resolve_job_def(job)
    names = [key.to_user_string() for key in definition.asset_layer.executable_asset_keys]
    chosen, run_id = _chosen(names, only), str(uuid.uuid4())
    liveness.hold(instance, run_id)  # before the run exists: no moment in which it looks dead
    try:
        result = definition.execute_in_process(
            instance=instance,
            partition_key=partition or None,
            raise_on_error=False,
            run_id=run_id,
            asset_selection=[dg.AssetKey(name) for name in chosen],
            # The console belongs to the progress display; the event log has everything.
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                "ops": {name: {"config": {"force": force}} for name in chosen},
            },
            tags={liveness.TAG: liveness.place()},
        )
    finally:
        liveness.let_go(instance, run_id)
    _raise_failure(result)
    reused = {
        str(event.step_key): event.materialization.metadata["vlaw/reused"].value
        for event in result.all_events
        if event.is_step_materialization
    }
    return Done(
        result.run_id,
        tuple(name for name, old in reused.items() if not old),
        tuple(name for name, old in reused.items() if old),
    )


ON_DEMAND = ("near_success",)
"""Assets of the foundation that few experiments need and that take minutes."""


def on_demand(recipes: Iterable[Recipe]) -> list[str]:
    """Those of ON_DEMAND that one of these recipes needs."""
    return [*ON_DEMAND] if any(recipe.world_model.near_success for recipe in recipes) else []


def make_foundation(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    lake: Lake,
    *,
    force: bool = False,
    also: Collection[str] = (),
) -> None:
    """Materializes what the foundation lacks. Once there it stays: it changes only when asked for (UI, --force)."""
    if wanted := foundation_lacks(defs, lake, force=force, also=also):
        run_job(defs, instance, "foundation", only=wanted, force=force)


def foundation_lacks(defs: dg.Definitions, lake: Lake, *, force: bool = False, also: Collection[str] = ()) -> list[str]:
    """Assets of the foundation that the ledger has not (all of them with `force`); of ON_DEMAND those in `also`."""
    names = [key.to_user_string() for key in defs.resolve_job_def("foundation").asset_layer.executable_asset_keys]
    wanted = [name for name in names if name not in ON_DEMAND or name in also]
    return [name for name in wanted if force or lake.ledger.current(name, "") is None]


class AlreadyRunError(VlawError):
    """Somebody else, on this host or another, runs the experiment."""


def lock_of(lake: Lake, experiment: str) -> FileLock:
    """What whoever runs an experiment holds; of a lake in a bucket all hosts see it."""
    from vlaw_assets.lake.durable import FileLock

    return FileLock(lake.paths.locks / f"experiment--{experiment}.lock")


@contextmanager
def alone(lake: Lake, experiment: str, holder: str = "vlaw run") -> Iterator[None]:
    """One run of an experiment at a time; a second one is refused at once (AlreadyRunError) instead of waiting."""
    lock = lock_of(lake, experiment)
    if not lock.acquire(holder=holder):
        raise AlreadyRunError(
            f"experiment {experiment} is already being run by process {lock.holder().get('pid', '?')}",
            where=str(lock.path),
            remedy="Wait until it is done (vlaw status), or stop it.",
        )
    try:
        yield
    finally:
        lock.release()


def _chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise VlawError(
            f"there is no asset {', '.join(unknown)} in an iteration",
            where="--only",
            remedy=f"Choose from {', '.join(sorted(names))}.",
        )
    return [name for name in names if not only or name in only]


def _raise_failure(result: dg.ExecuteInProcessResult) -> None:
    import dagster as dg

    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if dg.DagsterExecutionInterruptedError.__name__ in data.error_display_string:
                raise KeyboardInterrupt
            if data.user_failure_data is not None and data.user_failure_data.description:
                raise _told(data.user_failure_data.description, str(event.step_key), result.run_id)
            raise StageError(f"{event.step_key} failed in Dagster run {result.run_id}:\n{data.error_display_string}")
    for event in result.all_events:
        error = getattr(event.event_specific_data, "error", None)
        if event.event_type_value == "RESOURCE_INIT_FAILURE" and error is not None and error.cls_name == "Failure":
            raise _told(error.message.partition(": ")[2], "before the first step", result.run_id)
    if any(event.event_type_value == "PIPELINE_CANCELED" for event in result.all_events):
        raise KeyboardInterrupt  # between two steps
    if not result.success:
        raise StageError(f"Dagster run {result.run_id} failed before any step began; its event log says why.")


def _told(description: str, place: str, run_id: str) -> VlawError:
    """The error that a failure was made of (stage_asset.py, resources.py)."""
    what, _, rest = description.partition("\n  where:")
    where, _, remedy = rest.partition("\n  remedy:")
    return VlawError(
        what.strip(), where=where.strip() or place, remedy=remedy.strip() or f"Dagster run {run_id} has the details."
    )
