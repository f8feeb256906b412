"""VLAW_ENGINE: the name of an engine, or a TOML file that says more.

    engine = "slurm"     # in_process, subprocess, forked, ray, slurm, kubernetes
    workers = 4          # at a time
    limit_s = 3600       # that a worker may take to start, and for one part
    threads = 8          # of torch in a worker; without it as many as in the process of the run
    python = "python3"   # that vlaw is installed for where workers run; without it the run's own

    [training]           # trainings that several processes share; without it they stay in the process of the run
    processes = 8
    # More of `accelerate launch`; on CPUs of torchrun. These spread the weights, layer by layer.
    arguments = ["--use_fsdp", "--fsdp_version", "2", "--fsdp_cpu_ram_efficient_loading", "false"]

    [slurm]              # the engine's own keys (its file says which)
    partition = "gpu"
    gpus_per_node = 1

    [training.slurm]     # of a training's worker, where it is to have others
    gpus_per_node = 8

One place and not a recipe's key: where something runs is a matter of the machine, and changes nothing that is made.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vlaw_models.errors import VlawError
from vlaw_models.registry import Registry
from vlaw_models.threads import MOST, cores

VARIABLE = "VLAW_ENGINE"
IN_PROCESS = "in_process"
ENGINES = Registry(
    "engine",
    "vlaw.engines",
    {
        "subprocess": "vlaw_assets.engines.subprocess:Subprocess",
        "forked": "vlaw_assets.engines.forked:Forked",
        "ray": "vlaw_assets.engines.ray:Ray",
        "slurm": "vlaw_assets.engines.slurm:Slurm",
        "kubernetes": "vlaw_assets.engines.kubernetes:Kubernetes",
    },
)
"""Name -> class of an engine (`elsewhere.Engine`). in_process is none: nothing is started."""
FORKED = "forked"
_REMEDY = "docs/engines.md has the keys of an engine's file."


@dataclass(frozen=True)
class Settings:
    """An engine's file; the defaults where VLAW_ENGINE is a name."""

    engine: str = IN_PROCESS
    workers: int = 1
    limit_s: float = 3600.0
    threads: int | None = None
    python: str = ""
    training: Mapping[str, Any] | None = None
    """Processes and arguments."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The table of the engine's name."""
    training_options: Mapping[str, Any] = field(default_factory=dict)
    """The table of the engine's name within [training]."""
    where: str = VARIABLE

    def for_training(self) -> Settings:
        """What an engine is told that starts a training: its own keys, and over them those of [training]."""
        if not self.training_options:
            return self
        where = f"{self.where}, [training.{self.engine}]"
        return replace(self, options={**self.options, **self.training_options}, where=where)


def read_settings(given: str) -> Settings:
    """What VLAW_ENGINE says: without a file `forked` has a worker of one thread for each core, another one worker.

    Raises VlawError for an unknown engine or key, and a file that cannot be read.
    """
    if given == FORKED:
        return Settings(engine=FORKED, workers=min(MOST, cores()), threads=1)
    if not given.endswith(".toml"):
        return _checked(Settings(engine=given or IN_PROCESS))
    try:
        values = tomllib.loads(Path(given).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise VlawError(f"the engine's file cannot be read: {error}", where=given, remedy=_REMEDY) from error
    engine = values.get("engine", IN_PROCESS)
    options = values.pop(engine, {}) if isinstance(engine, str) else {}
    known = {one.name for one in fields(Settings)} - {"options", "training_options", "where"}
    if odd := sorted(set(values) - known):
        raise VlawError(
            f"unknown keys: {', '.join(odd)}",
            where=given,
            remedy=f"Use {', '.join(sorted(known))}, and a table [{engine}] for the keys of the engine itself.",
        )
    of_training: Any = {}
    if isinstance(training := values.get("training"), dict):
        of_training = training.pop(engine, {})
        values["training"] = {"arguments": [], **training}
    return _checked(Settings(**values, options=options, training_options=of_training, where=given))


def _is_training(table: Any) -> bool:
    return (
        isinstance(table, dict)
        and table.keys() == {"processes", "arguments"}
        and type(table["processes"]) is int
        and table["processes"] >= 1
        and isinstance(table["arguments"], list)
        and all(isinstance(one, str) for one in table["arguments"])
    )


def _checked(found: Settings) -> Settings:
    if found.engine != IN_PROCESS and found.engine not in ENGINES.names():
        raise VlawError(
            f"there is no engine {found.engine!r}",
            where=found.where,
            remedy=f"Choose from {', '.join([IN_PROCESS, *ENGINES.names()])}, or name a file that ends with .toml.",
        )
    wrong = [
        name
        for name, right in {
            "workers": type(found.workers) is int and found.workers >= 1,
            "limit_s": type(found.limit_s) in (int, float) and found.limit_s > 0,
            "threads": found.threads is None or (type(found.threads) is int and found.threads >= 1),
            "python": isinstance(found.python, str),
            "training": found.training is None or _is_training(found.training),
            found.engine: isinstance(found.options, dict),
            f"training.{found.engine}": isinstance(found.training_options, dict),
        }.items()
        if not right
    ]
    if found.engine == IN_PROCESS and (found.options or found.training):
        raise VlawError(
            "in_process starts no workers, so it has no table",
            where=found.where,
            remedy=f"Take out [in_process] and [training], or choose from {', '.join(ENGINES.names())}.",
        )
    if wrong:
        raise VlawError(f"{wrong[0]} has a value that it cannot have", where=found.where, remedy=_REMEDY)
    return found


def usable(given: str) -> str:
    """What VLAW_ENGINE says, once its engine has been found to be there. Raises VlawError where it is not."""
    found = read_settings(given)
    if found.engine == IN_PROCESS:
        return given
    kind = ENGINES.load(found.engine, where=found.where)
    for_parts, _for_training = kind(found), kind(found.for_training())  # either refuses keys that do not fit
    for_parts.check()
    return given


def options_of(settings: Settings, kind: type[Any]) -> Any:
    """The engine's own table as its dataclass. Raises VlawError for keys that are unknown or missing."""
    try:
        return kind(**settings.options)
    except TypeError as error:
        known = ", ".join(one.name for one in fields(kind))
        raise VlawError(
            f"the table [{settings.engine}] does not fit: {error}", where=settings.where, remedy=f"Its keys: {known}."
        ) from error
