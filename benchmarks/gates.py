"""Can the loop win here? The two gates to pass before any tuning, printed for one iteration on the embedded robot.

- Oracle ceiling: finetune on true-labelled successes of N rollouts in the TRUE simulator from the same starts, against
  filtered behaviour cloning on the same real rollouts. With a ceiling near zero no world model can help.
- Label precision: replay the imagined actions in the true simulator from the same start; which accepted successes are
  true? Under about 0.6 the imagined data teaches mistakes.

    python benchmarks/gates.py [--work DIR] [--k 50] [--n 100] [--tasks stack,book]

Works on the shipped weights; every step is kept in DIR, so a second call continues.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from vlaw_models.collect import collect_demonstrations, collect_rollouts, evaluate_policy
from vlaw_models.config import (
    EvaluationConfig,
    ImagineConfig,
    PolicyConfig,
    RewardModelConfig,
    RolloutConfig,
    WorldModelConfig,
)
from vlaw_models.episodes import Episode, Start
from vlaw_models.imagine import imagine
from vlaw_models.learn import finetune_policy, finetune_reward_model, finetune_world_model
from vlaw_models.metrics.stats import paired_difference, wilson
from vlaw_models.policies.base import load_policy
from vlaw_models.presets import foundation
from vlaw_models.rollout import rollout
from vlaw_models.score import score_episodes
from vlaw_models.worlds.tabletop.tasks import TASKS
from vlaw_models.worlds.tabletop.world import TabletopWorld, make_sim


def truth(episodes: list[Episode]) -> np.ndarray:
    """What the true simulator says of imagined episodes' actions, from the same seeded start: (N,) bool."""
    verdicts = []
    for episode in episodes:
        sim = make_sim(episode.task)
        sim.reset(episode.seed)
        for action in episode.actions:
            sim.step(action)
        verdicts.append(sim.task.outcome(sim).success)
    return np.array(verdicts)


def starts_of(real: list[Episode], count: int) -> list[Start]:
    """`count` starts per task, cycling over the real episodes' first frames."""
    starts = []
    for task in dict.fromkeys(e.task for e in real):
        of_task = [e for e in real if e.task == task]
        for index in range(count):
            e = of_task[index % len(of_task)]
            starts.append(Start(task, e.seed, e.instruction, e.images[0], e.states[0], str(e.seed)))
    return starts


class Table:
    """Prints one row per policy: success per task and overall with intervals, and the paired difference to the base."""

    def __init__(self, tasks: list[str], trials: int):
        self.tasks, self.cfg, self.base = tasks, EvaluationConfig(episodes_per_task=trials), None

    def row(self, name: str, policy_dir: Path) -> None:
        # Validation starts: what is tuned by looking at this table must not be evaluated on the same layouts.
        episodes = evaluate_policy(policy_dir, self.tasks, self.cfg, purpose="validation")
        success = np.array([bool(e.success) for e in episodes])
        low, high = wilson(int(success.sum()), len(success))
        per_task = {t: np.mean([e.success for e in episodes if e.task == t]) for t in self.tasks}
        text = "  ".join(f"{t} {v:.2f}" for t, v in per_task.items())
        line = f"{name:24s} {success.mean():.3f} [{low:.3f},{high:.3f}]  {text}"
        if self.base is None:
            self.base = success
        else:
            diff, lo, hi = paired_difference(success, self.base)
            line += f"  vs base {diff:+.3f} [{lo:+.3f},{hi:+.3f}]"
        print(line, flush=True)


def main() -> None:
    """Runs the gates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--updates", type=int, default=PolicyConfig().steps)
    parser.add_argument("--alpha", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=None, help="folder with the four foundation checkpoints")
    parser.add_argument("--skip-oracle", action="store_true")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="vlaw-gates-"))
    work.mkdir(parents=True, exist_ok=True)
    tasks = args.tasks.split(",")
    path = {
        k: (args.weights / k if args.weights else foundation("tiny", k))
        for k in ("base_policy", "world_model", "reward_model", "autoencoder")
    }
    clock = time.time()

    def lap(text: str) -> None:
        nonlocal clock
        print(f"  ({text}: {time.time() - clock:.0f} s)", flush=True)
        clock = time.time()

    table = Table(tasks, args.trials)
    table.row("base", path["base_policy"])
    lap("evaluation")
    real = collect_rollouts(
        path["base_policy"], tasks, RolloutConfig(episodes_per_task=args.k), iteration=1, seed=args.seed
    )
    lap("real rollouts")
    real_good = [e for e in real if e.success]
    update = PolicyConfig(steps=args.updates)
    finetune_policy(path["base_policy"], real_good, [], update, work / "fbc", seed=args.seed)
    lap("filtered BC update")
    table.row("filtered BC", work / "fbc")
    starts = starts_of(real, args.n)
    if not args.skip_oracle:
        policy, oracle = load_policy(path["base_policy"]), []
        for i in range(0, len(starts), 100):
            oracle += rollout(
                policy, TabletopWorld(), starts[i : i + 100], num_steps=28, seed=1000 + i, noise_scale=1.0
            )
        oracle_good = [e for e in oracle if e.success]
        lap(f"oracle rollouts, success {len(oracle_good)}/{len(oracle)}")
        finetune_policy(path["base_policy"], real_good, oracle_good, update, work / "oracle", seed=args.seed)
        table.row("oracle (privileged)", work / "oracle")
        failed = {(e.task, e.seed) for e in real if not e.success}
        covered = {(e.task, e.seed) for e in oracle_good} & failed
        print(f"failed starts that got a true success: {len(covered)}/{len(failed)}")
    cotrain = collect_demonstrations(tasks, 20, purpose="co_training", seed=0)
    clock = time.time()
    finetune_world_model(
        path["world_model"], path["autoencoder"], real, cotrain, WorldModelConfig(), work / "wm", seed=args.seed
    )
    lap("world model")
    finetune_reward_model(path["reward_model"], real, RewardModelConfig(), work / "judge", seed=args.seed)
    lap("reward model")
    imagined = []
    for batch in imagine(
        path["base_policy"], work / "wm", path["autoencoder"], starts, ImagineConfig(), seed=args.seed
    ):
        imagined += batch
    lap(f"imagine {len(imagined)}")
    score = score_episodes(work / "judge", imagined)
    lap("score")
    true = truth(imagined)
    lap("replay in the simulator")
    kept = score > args.alpha
    for task in [*tasks, "all"]:
        rows = np.array([task in ("all", e.task) for e in imagined])
        precision = true[rows & kept].mean() if (rows & kept).any() else float("nan")
        print(
            f"label precision {task:6s} {precision:.3f}  kept {(rows & kept).sum()}/{rows.sum()}"
            f"  true rate {true[rows].mean():.3f}  recall {kept[rows & true].mean() if (rows & true).any() else 0:.3f}"
        )
    finetune_policy(
        path["base_policy"],
        real_good,
        [e for e, k in zip(imagined, kept, strict=True) if k],
        update,
        work / "vlaw",
        seed=args.seed,
    )
    lap("policy update")
    table.row("VLAW", work / "vlaw")
    finetune_policy(
        path["base_policy"],
        real_good,
        [e for e, k in zip(imagined, true, strict=True) if k],
        update,
        work / "privileged",
        seed=args.seed,
    )
    table.row("imagined, true labels", work / "privileged")
    (work / "scores.json").write_text(json.dumps({"score": score.tolist(), "true": true.tolist()}))


if __name__ == "__main__":
    main()
