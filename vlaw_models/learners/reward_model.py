"""Training a reward model: from scratch on a labelled corpus, and with LoRA on the labelled rollouts of an iteration.

LoRA (through peft) is merged when saved, so a checkpoint is one set of weights whatever made it. Real rollouts,
scripted episodes and world-model replays carrying the real outcome are all just labelled episodes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vlaw_models.config import RewardModelConfig
from vlaw_models.device import first_process, seeded
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.learners.batches import Batches
from vlaw_models.learners.loop import LoopConfig, train
from vlaw_models.learners.resume import Checkpoints
from vlaw_models.progress import Progress
from vlaw_models.reward_models.augment import augment
from vlaw_models.reward_models.base import NO, YES, RewardModel, frame_indices, load_reward_model
from vlaw_models.sources import portable

Choice = list[tuple[int, np.ndarray]]
"""Per clip of a batch: number of an episode, and which of its frames (F,)."""


class Clips:
    """Episodes as a judge sees them: some frames of each, from its own cameras."""

    def __init__(self, judge: RewardModel, episodes: Sequence[Episode]):
        """VlawError for an episode that the judge cannot look at."""
        self.views = [judge.views_of(episode) for episode in episodes]
        self.images = [episode.images for episode in episodes]
        self.states = [np.asarray(episode.states, dtype=np.float32) for episode in episodes]

    @property
    def portable(self) -> bool:
        """Whether other processes can read the pictures."""
        return portable(self.images)

    def at(self, groups: list[Choice]) -> tuple[Choice, np.ndarray, np.ndarray]:
        """What was chosen, its frames (B, F, V, h, w, 3) uint8 and the robot's states there (B, F, D) float32."""
        (chosen,) = groups
        frames = [self.images[index][steps][:, self.views[index]] for index, steps in chosen]
        return chosen, np.stack(frames), np.stack([self.states[index][steps] for index, steps in chosen])


def train_reward_model(
    judge: RewardModel,
    episodes: Sequence[Episode],
    labels: Sequence[bool],
    *,
    steps: int,
    seed: int,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    micro_batch: int = 0,
    recompute: bool = False,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains the parameters of `judge` that require gradients, in place; leaves it in evaluation mode.

    Cross-entropy of the right answer over the two answers, AdamW, a short warm-up and cosine decay. Batches run
    through shuffled passes over the episodes, so P(yes) keeps the success rate of the data as its prior. A judge with
    a frozen encoder encodes every frame once, before training; another one is given augmented frames. `micro_batch`,
    `recompute`: as in LoopConfig; `checkpoints`: where an interrupted training is gone on with (resume.py).
    Returns {"losses": [one per step], "seconds": ..., "episodes": n, "successes": k}. VlawError without episodes.
    """
    if not episodes or len(episodes) != len(labels):
        raise VlawError(
            f"{len(episodes)} episodes with {len(labels)} labels",
            where="reward-model training",
            remedy="Give at least one episode and exactly one success label for each.",
        )
    begin = time.perf_counter()
    rng = np.random.default_rng([seed, 0x1A0E])
    generator = torch.Generator().manual_seed(seed)
    device = next(judge.parameters()).device
    answers = torch.tensor([YES if label else NO for label in labels])
    order = np.empty(0, dtype=np.int64)
    lengths = [len(episode.images) for episode in episodes]
    encoded = _frame_features(judge, episodes, device) if judge.frozen_eyes and steps else []

    def draw() -> list[Choice]:
        nonlocal order
        while len(order) < batch_size:
            order = np.concatenate([order, rng.permutation(len(episodes))])
        picked, order = order[:batch_size], order[batch_size:]
        return [[(index, frame_indices(lengths[index], judge.num_frames, rng)) for index in picked.tolist()]]

    def loss_of(logits: torch.Tensor, chosen: Choice) -> torch.Tensor:
        right = answers[[index for index, _ in chosen]].to(device)
        return functional.cross_entropy(logits.float(), right)

    def loss_of_clips(judge: RewardModel, batch: tuple[Choice, np.ndarray, np.ndarray]) -> torch.Tensor:
        chosen, pictures, states = batch
        frames = augment(torch.from_numpy(pictures), generator).to(device)
        asked = [episodes[index] for index, _ in chosen]
        instructions, rates = [one.instruction for one in asked], [one.control_hz for one in asked]
        told = judge.times_of([steps for _, steps in chosen], rates)
        return loss_of(judge(frames, instructions, torch.from_numpy(states).to(device), **told), chosen)

    def loss_of_features(judge: RewardModel, groups: list[Choice]) -> torch.Tensor:
        (chosen,) = groups
        return loss_of(judge.answer_features(*_clips_of_features(encoded, chosen)), chosen)

    loop = LoopConfig(
        steps=steps,
        learning_rate=learning_rate,
        warmup=50,
        final_rate=0.0,
        betas=(0.9, 0.99),
        weight_decay=weight_decay,
        bfloat16=judge.autocast,
        micro_batch=micro_batch,
        recompute=recompute,
    )
    options: dict[str, Any] = {"what": "reward model", "generator": generator, "seed": seed}
    options |= {"checkpoints": checkpoints, "progress": progress}
    if judge.frozen_eyes:
        losses = train(judge, Batches(batch_size, draw, list), loss_of_features, loop, **options)
    else:
        clips = Clips(judge, episodes if steps else [])
        found = Batches(batch_size, draw, clips.at, portable=clips.portable)
        losses = train(judge, found, loss_of_clips, loop, **options)
    return {
        "losses": losses,
        "seconds": time.perf_counter() - begin,
        "episodes": len(episodes),
        "successes": int(sum(bool(label) for label in labels)),
    }


def finetune_reward_model(
    start_dir: Path,
    episodes: Sequence[Episode],
    cfg: RewardModelConfig,
    out_dir: Path,
    *,
    seed: int,
    replays: Sequence[Episode] = (),
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Adapts the judge in `start_dir` to labelled rollouts with LoRA and saves the merged judge to `out_dir`.

    `replays`: a world model's replays of the rollouts, in their order (or none): they take over the rollouts' labels.
    `cfg.steps` 0 saves the judge as it was. Returns what `train_reward_model` returns. VlawError for an episode
    without a label, for no episodes, and for a damaged checkpoint, all before anything is written.
    """
    unlabelled = [episode.episode_id or f"seed {episode.seed}" for episode in episodes if episode.success is None]
    if unlabelled:
        raise VlawError(
            f"{len(unlabelled)} of {len(episodes)} episodes have no success label, e.g. {unlabelled[0]}",
            where="reward-model finetuning",
            remedy="Label them, or leave them out: only labelled rollouts teach a judge.",
        )
    if cfg.steps < 0 or cfg.batch_size < 1 or cfg.lora_rank < 1:
        raise VlawError(
            f"steps {cfg.steps}, batch_size {cfg.batch_size}, lora_rank {cfg.lora_rank}",
            where="the recipe's reward_model table",
            remedy="Give steps >= 0, batch_size >= 1, lora_rank >= 1.",
        )
    if replays and [replay.start_episode_id for replay in replays] != [episode.episode_id for episode in episodes]:
        raise VlawError(
            "the replays are not those of the rollouts, one for each and in their order",
            where="reward-model finetuning",
            remedy="Replay the very rollouts that the judge learns from.",
        )
    judge = load_reward_model(start_dir)
    adapted = add_lora(judge, cfg.lora_rank, seed=seed)
    labels = [bool(episode.success) for episode in episodes]
    # No weight decay: it would pull the low-rank change, not the weights, towards zero.
    result = train_reward_model(
        judge,
        [*episodes, *replays],
        labels * 2 if replays else labels,
        steps=cfg.steps,
        seed=seed,
        batch_size=cfg.batch_size,
        learning_rate=cfg.learning_rate,
        weight_decay=0.0,
        micro_batch=cfg.micro_batch,
        recompute=cfg.recompute,
        checkpoints=checkpoints,
        progress=progress,
    )
    adapted.merge_and_unload()
    if first_process():
        judge.save(Path(out_dir))
    return result


def _frame_features(
    judge: RewardModel, episodes: Sequence[Episode], device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Per episode the frozen encoder's features of each frame (T+1, E) float16, and the robot's states (T+1, D)."""
    judge.eval()
    encoded = []
    with torch.inference_mode():
        for episode in episodes:
            frames = torch.from_numpy(judge.pictures(episode)).to(device)
            encoded.append(
                (
                    judge.frame_features(frames[None], [episode.instruction])[0].half(),
                    torch.from_numpy(np.asarray(episode.states, dtype=np.float32)).to(device),
                )
            )
    return encoded


def _clips_of_features(
    encoded: Sequence[tuple[torch.Tensor, torch.Tensor]], chosen: Choice
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each episode the frames that the judge looks at: (B, F, E) float32 and (B, F, D)."""
    # float32 before stacking: under bfloat16 autocast on a CPU, stack takes no float16.
    return (
        torch.stack([encoded[index][0][steps].float() for index, steps in chosen]),
        torch.stack([encoded[index][1][steps] for index, steps in chosen]),
    )


def add_lora(judge: RewardModel, rank: int, *, seed: int) -> Any:
    """Freezes the judge and puts LoRA layers into it in place (alpha = 2 rank); returns peft's handle for merging.

    The layers are float32 whatever the judge is in: in bfloat16 most of a step of training would be rounded away.
    """
    from peft import LoraConfig, LoraModel

    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=judge.lora_targets(), bias="none")
    with seeded(seed):
        handle = LoraModel(judge, config, "default")
    for name, parameter in judge.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return handle
