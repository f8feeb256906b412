"""openpi's golden vectors (golden/make_openpi.py made them), and policies of ours with the same weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch

from vlaw_models.policies.base import TrainedPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.pi0 import Pi0Policy
from vlaw_models.policies.pi05 import Pi05Policy
from vlaw_models.presets import PI05, POLICY
from vlaw_models.tokenize import InstructionTokenizer

GOLDEN = Path(__file__).parent / "policies" / "golden"
RECORD = json.loads((GOLDEN / "openpi.json").read_text())
CLASSES = {"pi0": (Pi0Policy, POLICY["paper"], POLICY["toy"]), "pi05": (Pi05Policy, PI05["paper"], PI05["toy"])}
_spec = importlib.util.spec_from_file_location("make_openpi", GOLDEN / "make_openpi.py")
assert _spec is not None
assert _spec.loader is not None
_made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_made)
seeded_weights = _made.seeded_weights


def weights(kind: str) -> dict[str, torch.Tensor]:
    """Under openpi's names."""
    found = seeded_weights(RECORD["weights"][kind])
    return {name: torch.from_numpy(value) for name, value in found.items()}


def vectors(kind: str) -> dict[str, np.ndarray]:
    """What openpi was given and what it made of it."""
    with np.load(GOLDEN / f"openpi_{kind}.npz") as file:
        return dict(file)


def normalization(chunk: int = 8) -> Normalization:
    """The quantiles, as openpi uses them: with a millionth more of range."""
    state, actions = RECORD["statistics"]["state"], RECORD["statistics"]["actions"]
    low, high = np.float32(state["q01"]), np.float64(state["q99"]) + 1e-6
    first, last = np.float32(actions["q01"]), np.float64(actions["q99"]) + 1e-6
    return Normalization(
        low,
        high.astype(np.float32),
        np.tile(first, (chunk, 1)),
        np.tile(last.astype(np.float32), (chunk, 1)),
        tuple(range(len(first))),
    )


def policy(kind: str, *, views: tuple[int, ...] = (0, 1)) -> TrainedPolicy:
    """Ours at the golden sizes, with the golden weights; it looks at the first and the second picture."""
    made, paper, toy = CLASSES[kind]
    template, length = paper["instruction_template"], paper["instruction_length"]
    text = (GOLDEN / "tokenizer.json").read_text()
    tokenizer = InstructionTokenizer.from_json(text, length=length, template=template)
    rows = RECORD["weights"][kind]["paligemma_with_expert.paligemma.lm_head.weight"][0]
    sizes = {**toy["sizes"], "vocabulary_size": rows, "views": views}
    new = made(tokenizer, normalization(), execute_steps=4, euler_steps=4, **sizes)
    new.load_state_dict(weights(kind))
    return new.eval()
