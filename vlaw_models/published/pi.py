"""pi0 and pi0.5: openpi's folder (model.safetensors, assets/.../norm_stats.json) and LeRobot's (config.json, the
statistics of its normalizer). Both have the same names, LeRobot's after a leading "model.".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.checkpoint import CONFIG, TOKENIZER, WEIGHTS, read_text
from vlaw_models.errors import VlawError
from vlaw_models.presets import PI05, POLICY
from vlaw_models.published.keys import KeyReport, match
from vlaw_models.published.part import Options, Part, preset_of, published_config, shapes_of
from vlaw_models.published.statistics import read_statistics
from vlaw_models.published.tensors import Stored, stored_tensors, weight_files

if TYPE_CHECKING:
    from vlaw_models.policies.pi0 import Pi0Policy

_OTHER = {"pi0": "pi05", "pi05": "pi0"}
BEGIN = "<bos>"
SPARE = 64
"""Words that a tokenizer may have beyond the embedding: <image>, which is never in a prompt."""


def pi0(path: Path, options: Options) -> list[Part]:
    return [_policy("pi0", path, options)]


def pi05(path: Path, options: Options) -> list[Part]:
    return [_policy("pi05", path, options)]


def _policy(kind: str, path: Path, options: Options) -> Part:
    from vlaw_models.policies.pi0 import TIED_WORDS, WORDS, Pi0Policy
    from vlaw_models.policies.pi05 import Pi05Policy
    from vlaw_models.tokenize import InstructionTokenizer

    table, made = (PI05, Pi05Policy) if kind == "pi05" else (POLICY, Pi0Policy)
    preset = preset_of(table, options.preset, made.__name__)
    folder = path if path.is_dir() else path.parent
    published = stored_tensors(path)
    words = [one.shape for name, one in published.items() if name.removeprefix("model.") in (WORDS, TIED_WORDS)]
    given = published_config(folder, needed_for=kind) if (folder / CONFIG).is_file() else {}
    chunk = options.chunk or given.get("action_horizon") or given.get("chunk_size") or preset["chunk_size"]
    statistics = read_statistics(kind, folder, given, options, chunk=int(chunk))
    vocabulary, where = _vocabulary(folder, options)
    prompt = table["paper"]  # which is the published one at every size
    tokenizer = InstructionTokenizer.from_json(
        vocabulary, length=prompt["instruction_length"], template=prompt["instruction_template"], where=where
    )
    rows = words[0][0] if words else tokenizer.vocabulary_size
    if tokenizer.tokenizer.token_to_id(BEGIN) is None or tokenizer.vocabulary_size > rows + SPARE:
        raise VlawError(
            f"a tokenizer of {tokenizer.vocabulary_size} words for {rows} embeddings, "
            f"{'with' if tokenizer.tokenizer.token_to_id(BEGIN) is not None else 'without'} {BEGIN}: it is not "
            "PaliGemma's",
            where=str(where),
            remedy="Give the tokenizer.json of google/paligemma-3b-pt-224 as --tokenizer.",
        )
    widest = max(statistics.state_dim, statistics.rows[1])
    if widest > preset["sizes"]["max_dim"]:
        raise VlawError(
            f"the statistics have {widest} numbers, the policy takes {preset['sizes']['max_dim']}",
            where=str(folder),
            remedy="Give the statistics of these weights (--norm-stats), or the preset of their size (--preset).",
        )
    cameras = options.robot.cameras_of(prompt["roles"])
    views = [options.robot.camera_names.index(name) for name in cameras]
    sizes = {**preset["sizes"], "views": views, "vocabulary_size": rows}
    own: dict[str, Any] = {}

    def build() -> Pi0Policy:
        policy = made(
            tokenizer,
            statistics,
            execute_steps=min(max(round(preset["execute_steps"] / statistics.per_step), 1), statistics.chunk_size),
            euler_steps=given.get("num_inference_steps") or preset["euler_steps"],
            **sizes,
        )
        policy.space = options.robot.commands
        own.update(policy.config())
        return policy

    report = _matched(published, shapes_of(build)).check(
        "pi0.5" if kind == "pi05" else "pi0",
        where=str(path),
        remedy=f"Give the weights of {kind} at this preset's size (--preset), or import them as what they are: "
        f"`vlaw weights import {_OTHER[kind]}`.",
    )
    files = weight_files(path)
    part = Part("base_policy", own, report, texts={TOKENIZER: vocabulary})
    part.links = {WEIGHTS: files[0]} if len(files) == 1 else {file.name: file for file in files}
    source = "given" if options.chunk else "published" if given else "by the preset"
    numbers = f"{statistics.state_dim} numbers of state, {statistics.rows[1]} of action"
    part.notes += [
        f"it looks at {', '.join(cameras)} of robot {options.robot.name!r}, in this order",
        f"{numbers}, chunks of {chunk} ({source})",
    ]
    if (statistics.state_dim, statistics.action_dim) != (len(options.robot.state), len(options.robot.action)):
        part.notes.append(
            f"robot {options.robot.name!r} has {len(options.robot.state)} and {len(options.robot.action)}: this policy "
            "acts in another space than the robot's own: name the robot that is commanded as it acts (--robot)"
        )
    return part


def _matched(published: dict[str, Stored], ours: dict[str, tuple[int, ...]]) -> KeyReport:
    from vlaw_models.policies.pi0 import TIED_WORDS, WORDS, ignored

    plain = {name.removeprefix("model.") for name in published}
    tied = TIED_WORDS in plain and WORDS not in plain

    def name(key: str) -> str:
        short = key.removeprefix("model.")
        return WORDS if tied and short == TIED_WORDS else short

    def drop(key: str) -> str | None:
        short = key.removeprefix("model.")
        return None if tied and short == TIED_WORDS else ignored(short)

    return match({key: one.shape for key, one in published.items()}, ours, name=name, drop=drop)


def _vocabulary(folder: Path, options: Options) -> tuple[str, Path]:
    given = options.tokenizer or folder
    file = given / TOKENIZER if given.is_dir() else given
    if not file.is_file():
        raise VlawError(
            "PaliGemma's vocabulary is not beside the weights",
            where=str(file),
            remedy="Give --tokenizer FILE: the tokenizer.json of google/paligemma-3b-pt-224.",
        )
    return read_text(file), file
