"""Workers as jobs of Slurm, by submitit (`pip install vlaw[slurm]`) and a Pipes session in files of the shared disk.

    [slurm]
    partition = "gpu"
    timeout_min = 240
    cpus_per_task = 8
    gpus_per_node = 1
    parameters = { account = "lab", qos = "normal" }    # more of sbatch's, with _ for -

    [training.slurm]     # of the job of a training, each over the same key of [slurm]
    gpus_per_node = 8

Nodes see the lake and the Python at the same paths.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from vlaw_assets.engines import pipes
from vlaw_assets.engines.elsewhere import AGAIN, LOOK_S, Call
from vlaw_assets.engines.settings import Settings, options_of
from vlaw_models.errors import VlawError

ASK_S = 5.0
"""How often Slurm is asked whether it still knows the job."""


@dataclass(frozen=True)
class SlurmOptions:
    """The table [slurm]."""

    partition: str = ""
    timeout_min: int = 240
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)


class Slurm:
    """`vlaw_assets.engines.worker` as a Slurm job."""

    queues = True

    def __init__(self, settings: Settings):
        self._options: SlurmOptions = options_of(settings, SlurmOptions)
        self._python = settings.python or sys.executable

    def check(self) -> None:
        try:
            import submitit
        except ImportError as error:
            raise VlawError(
                f"engine 'slurm' is not installed: {error}", where="VLAW_ENGINE", remedy="pip install 'vlaw[slurm]'"
            ) from error
        self._submitit: Any = submitit
        if shutil.which("sbatch") is None:
            raise VlawError(
                "Slurm's sbatch is not on this machine", where="PATH", remedy="Run vlaw on a login node of the cluster."
            )
        found = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=60, check=False)
        if found.returncode:
            raise VlawError(
                f"Slurm cannot be reached: {found.stderr.strip()[:300]}",
                where="sinfo",
                remedy="See that slurmctld answers (scontrol ping).",
            )

    def run(self, context: Any, call: Call) -> None:
        executor = self._submitit.AutoExecutor(folder=call.folder / "slurm", cluster="slurm", slurm_python=self._python)
        given: dict[str, Any] = {"slurm_partition": self._options.partition} if self._options.partition else {}
        if self._options.gpus_per_node:
            given["gpus_per_node"] = self._options.gpus_per_node
        executor.update_parameters(
            name="vlaw",
            timeout_min=self._options.timeout_min,
            cpus_per_task=self._options.cpus_per_task,
            slurm_additional_parameters=self._options.parameters,
            **given,
        )
        with dg.open_pipes_session(
            context,
            context_injector=pipes.injector(call),
            message_reader=pipes.reader(call),
            extras=pipes.extras(call),
        ) as session:
            variables = [f"{name}={value}" for name, value in session.get_bootstrap_env_vars().items()]
            variables += [f"{name}={value}" for name, value in pipes.environment().items()]
            work = self._submitit.helpers.CommandFunction(
                ["env", *variables, self._python, "-m", pipes.MODULE], verbose=False
            )
            self._follow(executor.submit(work), call)

    def _follow(self, job: Any, call: Call) -> None:
        """Until the job is over; ends it where the call is to stop."""
        asked = time.monotonic()
        while not job.done():
            if call.stop.is_set():
                job.cancel()
                return
            if time.monotonic() - asked > ASK_S:
                asked = time.monotonic()
                if not _known(str(job.job_id)) and not job.done(force_check=True):
                    time.sleep(ASK_S)  # the file of its result may come late over a network
                    if not job.done():
                        raise VlawError(
                            "a worker died: Slurm does not know it any more",
                            where=f"Slurm job {job.job_id}",
                            remedy=AGAIN,
                        )
            time.sleep(LOOK_S)
        if (error := job.exception()) is not None and not call.stop.is_set():
            call.log.write_text(str(error))
            raise VlawError("a worker died", where=f"Slurm job {job.job_id}", remedy=AGAIN)


def _known(job: str) -> bool:
    """Whether Slurm has the job waiting or running."""
    found = subprocess.run(
        ["squeue", "--noheader", "--jobs", job, "--states", "all", "--format", "%T"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C"}, check=False,
    )  # fmt: skip
    return found.stdout.strip() in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED")
