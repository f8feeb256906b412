"""`vlaw pretrain`: makes tiny weights as the shipped ones were made, from simulated data alone, seeded and resumable.

Two lanes run side by side, each on one thread: world model with its reward heads, and base policy; then the judge,
which stands on both. A stage whose checkpoint is in the output folder is skipped.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlaw_models.pretrain.stages import Corpora, PretrainConfig
from vlaw_models.progress import Progress

STAGES = ("corpus", "autoencoder", "world_model", "base_policy", "reward_heads", "reward_model")
LANES = (("autoencoder", "world_model"), ("base_policy",))
ALONE = 2
"""Threads of a stage beside which no other runs."""


def main(out: Path, work: Path, *, code_revision: str = "") -> None:
    """Trains everything that is missing in `out`. Raises RuntimeError where a stage fails; a second call continues."""
    cfg = PretrainConfig()
    run_stage("corpus", out, work, cfg)
    lanes = [
        subprocess.Popen([sys.executable, "-m", "vlaw_models.pretrain", str(out), str(work), *stages])
        for stages in LANES
    ]
    codes = [lane.wait() for lane in lanes]
    if any(codes):
        raise RuntimeError("a pretraining stage failed; its message is above. Run the same command to continue.")
    run_stage("reward_heads", out, work, cfg)
    run_stage("reward_model", out, work, cfg)
    write_provenance(out, work, cfg, code_revision)


def run_stage(name: str, out: Path, work: Path, cfg: PretrainConfig) -> None:
    """One stage, on the threads of its lane; skipped where its result is there already."""
    from vlaw_models.pretrain import stages
    from vlaw_models.threads import on_threads

    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}: choose from {', '.join(STAGES)}")
    done = work / f"{name}.json"
    if done.exists():
        return
    with on_threads(1 if any(name in lane for lane in LANES) else ALONE):
        data = Corpora(work, cfg, _printer(name))
        begun = time.monotonic()
        if name == "corpus":
            result: dict[str, Any] = {
                "episodes": sum(
                    len(part())
                    for part in (
                        *(data.broad, data.hard, data.unseen, data.demonstrations, data.co_training),
                        data.near_success,
                    )
                )
            }
        elif name == "autoencoder":
            result = stages.make_autoencoder(out / "autoencoder")
        elif name == "world_model":
            result = stages.train_world_model(data, out / "autoencoder", out / "world_model", _printer(name))
        elif name == "reward_heads":
            result = stages.train_reward_heads(
                data, out / "autoencoder", out / "world_model", out / "base_policy", _printer(name)
            )
        elif name == "base_policy":
            result = stages.train_base_policy(data, out / "base_policy", _printer(name))
        else:
            result = stages.train_reward_model(
                data,
                out / "autoencoder",
                out / "world_model",
                out / "base_policy",
                out / "reward_model",
                _printer(name),
            )
    result["seconds"] = round(time.monotonic() - begun, 1)
    work.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps(result))


def write_provenance(out: Path, work: Path, cfg: PretrainConfig, code_revision: str) -> None:
    """PROVENANCE.json: command, code revision, seeds, stage results and the digest of every shipped file."""
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "PROVENANCE.json")
    record = {
        "command": "vlaw pretrain",
        "code_revision": code_revision,
        "config": asdict(cfg),
        "stages": {s: json.loads((work / f"{s}.json").read_text()) for s in STAGES if (work / f"{s}.json").exists()},
        "sha256": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }
    (out / "PROVENANCE.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def _printer(stage: str) -> Progress:
    last = 0.0

    def progress(done: int, total: int, text: str) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > 20:
            last = time.monotonic()
            sys.stderr.write(f"[{stage}] {done}/{total} {text}\n")

    return progress
