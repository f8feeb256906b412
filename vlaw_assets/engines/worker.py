"""The process that an engine starts: makes the parts of one job, and lists what it made.

    python -m vlaw_assets.engines.worker

Dagster Pipes says which folder, and carries the lines of its log to the run's. It reads the inputs that the job names,
once it has found them to be those that were pinned, and writes into its folder only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster_pipes import open_dagster_pipes

from vlaw_assets.engines import files
from vlaw_assets.engines.elsewhere import BEGUN, ERROR, JOB
from vlaw_models.errors import VlawError
from vlaw_models.registry import attribute_of

ORPHAN_S = 1.0
LAUNCH = "vlaw_assets.engines.training:launch"


def work(folder: Path, say: Callable[[str], None]) -> None:
    """Makes all parts of the job in a folder. Raises VlawError for inputs or code other than were pinned."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    if "training" in job:
        attribute_of(LAUNCH)(folder, job)
        return
    function = _function(job)
    inputs = {name: _pinned(name, given) for name, given in job["inputs"].items()}
    from vlaw_assets.pipeline.code_identity import made_with

    if torch := sys.modules.get("torch"):  # imported by what computes with it
        torch.set_num_threads(job["threads"])
    make = function(inputs, files.of_json(job["settings"]))
    for number, given in job["parts"].items():
        begun = time.monotonic()
        part = files.get(Path(given["folder"]) / given["file"], given["sha256"])
        made = files.put(folder / f"{int(number):04d}.safetensors", make(part))
        listed = {**made, "given": given["sha256"], "made_with": made_with()}
        files.replace(folder / f"{int(number):04d}.json", json.dumps(listed))
        say(f"{job['stage']}: part {number} of worker {folder.name} in {time.monotonic() - begun:.1f} s")


def _function(job: Mapping[str, Any]) -> Callable[..., Any]:
    """The heavy part. Raises VlawError where the code here is not the orchestrator's."""
    from vlaw_assets.pipeline.code_identity import code_digest, code_revision

    module = job["function"].partition(":")[0]
    if not module.startswith(files.TRUSTED):
        raise VlawError(
            f"{job['function']!r} is no heavy part", where=JOB, remedy="Name a function of a module of vlaw_models."
        )
    if (here := code_digest(module)) != job["code"]:
        raise VlawError(
            f"a worker has other code of {module}: {here[:12]} instead of {job['code'][:12]}",
            where=f"{os.uname().nodename}, revision {code_revision()[:12] or 'unknown'} instead of "
            f"{job['code_revision'][:12] or 'unknown'}",
            remedy="Install the same revision of vlaw where workers run.",
        )
    found: Callable[..., Any] = attribute_of(job["function"])
    return found


def _pinned(name: str, given: Mapping[str, Any]) -> Path:
    """An input's folder. Raises VlawError where its files are not those that were pinned."""
    folder = Path(given["folder"])
    if not folder.is_dir():
        raise VlawError(
            f"a worker does not see the input {name!r}",
            where=f"{os.uname().nodename}:{folder}",
            remedy="Give workers the lake's folder at the same path, by a file system that they share.",
        )
    here = files.listing(folder)
    if odd := sorted({*here.items()} ^ {*given["files"].items()}):
        raise VlawError(
            f"the input {name!r} of a worker is not what was pinned: {odd[0][0]} differs",
            where=f"{os.uname().nodename}:{folder}, artifact {given['artifact']}",
            remedy="Restore the file (vlaw doctor finds such files), or look at the disk that workers share.",
        )
    return folder


def main() -> None:
    """The process. What goes wrong is in its folder, in words where it is a VlawError, and its exit status is 1."""
    with open_dagster_pipes() as pipes:
        folder = Path(pipes.get_extra("folder"))
        if pipes.extras.get("parent"):
            threading.Thread(target=end_with_parent, args=(pipes.get_extra("parent"),), daemon=True).start()
        (folder / BEGUN).touch()
        with told(folder):
            work(folder, pipes.log.info)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """What goes wrong inside the block is told to the run, and ends the process."""
    try:
        yield
    except VlawError as error:
        said = {"what": error.what, "where": error.where, "remedy": error.remedy}
        files.replace(folder / ERROR, json.dumps(said))
        raise SystemExit(1) from error
    except Exception:
        traceback.print_exc()
        raise


def end_with_parent(parent: int) -> None:
    """Nobody reads what an orphan makes."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(3)
        time.sleep(ORPHAN_S)


if __name__ == "__main__":
    main()
