"""What the columns of the exported files are: Croissant's type of each, and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlaw_models.robots.spec import Vector

TYPES = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float": "cr:Float32",
    "double": "cr:Float64",
    "timestamp[us, tz=UTC]": "sc:DateTime",
    "binary": "sc:ImageObject",
}
"""Arrow's name of a type -> Croissant's."""

MEANING = {
    "artifact_id": "The artifact of vlaw's ledger that holds the episode.",
    "asset": "Asset of that artifact.",
    "partition_key": "Partition of that artifact: experiment and iteration.",
    "experiment": "Experiment that the episode was made in; empty for the foundation.",
    "iteration": "Iteration of the experiment; 0 for the foundation.",
    "episode_id": "Id of the episode.",
    "episode_index": "Its number in that artifact.",
    "purpose": "What it was made for: rollout, evaluation, imagined, ...",
    "world": "What it ran in: the robot's world, or a world model.",
    "task": "Category of the task.",
    "instruction": "What the policy was told, in words.",
    "seed": "Seed of the episode's start.",
    "start_episode_id": "Of an imagined or replayed episode: the real one whose first frame it starts from.",
    "policy": "Content digest of the policy's checkpoint.",
    "world_model": "Content digest of the world model's checkpoint.",
    "num_steps": "Control steps.",
    "success": "Whether it succeeded, by the label in force, else as recorded; null where nobody judged.",
    "event": "How it ended: success, or the way it failed.",
    "nearness": "How near to success it ended: 1 success, 0 as far as at the start; null where that was not measured.",
    "label_source": "Who said what was recorded of success.",
    "num_frames": "Frames per camera that were kept, the last ones: num_steps + 1 where all were.",
    "cameras": "Names of the cameras.",
    "height": "Height of a frame in pixels.",
    "width": "Width of a frame in pixels.",
    "extra_json": "What else was recorded of it, as JSON.",
    "content_digest": "sha256 of its content.",
    "created_at": "When it was committed.",
    "recorded": "Success as it was recorded, whatever people said later.",
    "label": "The latest label that a person gave: success, failure or near_success; null where nobody did.",
    "weight": "How much the episode counts in the training set.",
    "source": "Where the training set has it from: real, imagined or rehearsed.",
    "step": "Number of the control step, from 0; the last one has a state and no action.",
    "timestamp": "Seconds since the episode began.",
    "state": "State of the robot before the step",
    "action": "Absolute target that the step commanded",
    "reward": "Reward of the step; null where nobody judged.",
    "camera": "Name of the camera.",
    "format": "png (lossless) or jpeg.",
    "image": "The frame, encoded.",
}


def described(column: str, vector: Vector | None = None) -> str:
    """What a column means; of a state or an action with the names and units of its numbers, where they are known."""
    text = MEANING[column]
    if vector is not None:
        pairs = zip(vector.names, vector.units, strict=True)
        text += ": " + ", ".join(f"{name} ({unit})" if unit else name for name, unit in pairs)
    return text if text.endswith(("...", ".")) else f"{text}."
