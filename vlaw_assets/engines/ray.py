"""Workers as jobs of a Ray cluster, by dagster-ray's Pipes client (`pip install vlaw[ray]`).

    [ray]
    address = "http://head:8265"    # of the cluster's dashboard; without it RAY_ADDRESS
    num_cpus = 1.0                  # that a job takes
    num_gpus = 1.0

Nodes see the lake at the same path. dagster-ray's executor and launcher are not used.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import Any

from vlaw_assets.engines import pipes
from vlaw_assets.engines.elsewhere import AGAIN, Call
from vlaw_assets.engines.settings import Settings, options_of
from vlaw_models.errors import VlawError


@dataclass(frozen=True)
class RayOptions:
    """The table [ray]."""

    address: str = ""
    num_cpus: float = 1.0
    num_gpus: float = 0.0


class Ray:
    """`vlaw_assets.engines.worker` as the entry point of a Ray job."""

    queues = True

    def __init__(self, settings: Settings):
        self._options: RayOptions = options_of(settings, RayOptions)
        self._python = settings.python or sys.executable
        self._address = self._options.address or os.environ.get("RAY_ADDRESS", "")

    def check(self) -> None:
        try:
            from dagster_ray.core.pipes import PipesRayJobClient
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise VlawError(
                f"engine 'ray' is not installed: {error}", where="VLAW_ENGINE", remedy="pip install 'vlaw[ray]'"
            ) from error
        self._client: Any = PipesRayJobClient
        if not self._address.startswith(("http://", "https://")):
            raise VlawError(
                f"Ray's address {self._address!r} is not that of a dashboard",
                where="[ray] address, or RAY_ADDRESS",
                remedy="Give it as http://HEAD:8265, as `ray start --head` prints it.",
            )
        try:
            JobSubmissionClient(self._address).list_jobs()
        except (ConnectionError, OSError, RuntimeError) as error:
            raise VlawError(
                f"Ray cannot be reached: {error}"[:300],
                where=self._address,
                remedy="Start the cluster (ray start --head), or mend [ray] address.",
            ) from error

    def run(self, context: Any, call: Call) -> None:
        client = self._client(
            address=self._address,
            context_injector=pipes.injector(call),
            message_reader=pipes.reader(call),
            poll_interval=0.5,
        )
        job = call.folder.name
        command = shlex.join([self._python, "-m", pipes.MODULE])
        with pipes.ended_by(call, lambda: client.client.stop_job(job)):
            try:
                client.run(
                    context=context,
                    extras=pipes.extras(call),
                    submit_job_params={
                        "entrypoint": f"{command} > {shlex.quote(str(call.log))} 2>&1",
                        "submission_id": job,
                        "entrypoint_num_cpus": self._options.num_cpus,
                        "entrypoint_num_gpus": self._options.num_gpus,
                        # Ray tells jobs to use one thread per CPU that they asked for; the job itself says how many.
                        "runtime_env": {"env_vars": pipes.environment()},
                    },
                )
            except RuntimeError as error:
                if not call.stop.is_set():
                    raise VlawError(
                        f"a worker died: {str(error).splitlines()[0]}", where=f"Ray job {job}", remedy=AGAIN
                    ) from error
