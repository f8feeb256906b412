"""What an import is to write, decided before a byte is written: checkpoint folders of ours, and how each is filled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.checkpoint import CONFIG, WEIGHTS
from vlaw_models.errors import VlawError
from vlaw_models.links import link
from vlaw_models.published.keys import KeyReport
from vlaw_models.published.tensors import Stored, write_tensors

if TYPE_CHECKING:
    import torch

    from vlaw_models.robots.spec import RobotSpec

RECORD = "import.json"
"""Of a folder: which published tensor became which of ours, and what was left out."""


@dataclass(frozen=True)
class Options:
    """What published files do not say."""

    robot: RobotSpec
    preset: str = "paper"
    """Sizes that are not in the published files."""
    clip: Path | None = None
    """CLIP's folder, published or imported: the vocabulary, and the weights where the world model's file has none."""
    tokenizer: Path | None = None
    """PaliGemma's tokenizer.json, or the folder of it."""
    statistics: Path | None = None
    """norm_stats.json, where it is not in the folder."""
    chunk: int | None = None
    """Actions that a policy predicts."""
    relative: bool = False
    """The statistics are of actions relative to the state."""
    defects: str = "training"
    """Which of the published world model's it keeps (diffusion.py)."""


@dataclass
class Part:
    """One checkpoint folder."""

    key: str
    """Key of foundation.toml [weights], or what it is."""
    config: dict[str, Any]
    report: KeyReport
    links: dict[str, Path] = field(default_factory=dict)
    """File -> the published file, whose tensors are taken as they are."""
    tensors: Mapping[str, Stored | torch.Tensor] = field(default_factory=dict)
    """Tensors that get other names, for model.safetensors."""
    texts: dict[str, str] = field(default_factory=dict)
    """File -> text."""
    notes: list[str] = field(default_factory=list)
    """What a person should know."""

    def write(self, folder: Path, *, kind: str) -> None:
        """Fills the folder, its config.json last: without that it is an unfinished one."""
        for name in (CONFIG, *self.links, *self.texts):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for name, source in self.links.items():
            how = link(source, folder / name)
            self.notes.append(f"{name} is {how}")
        if self.tensors:
            write_tensors(folder / WEIGHTS, self.tensors)
        record = {"kind": kind, **self.report.to_json()}
        for name, text in {**self.texts, RECORD: _json(record), CONFIG: _json(self.config)}.items():
            (folder / name).write_text(text, encoding="utf-8")


def shapes_of(build: Callable[[], torch.nn.Module]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors of a model, which is built without memory for them."""
    import torch

    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build().state_dict().items()}


def published_config(folder: Path, *, needed_for: str) -> dict[str, Any]:
    """The published config.json. Raises VlawError where it is missing or damaged."""
    file = folder / CONFIG
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it is no object")
    except (OSError, ValueError, TypeError) as error:
        raise VlawError(
            f"the published configuration cannot be read: {error}",
            where=str(file),
            remedy=f"Give the folder as it was published, with {CONFIG}: it has the sizes of {needed_for}.",
        ) from error
    return found


def preset_of(table: Mapping[str, Any], preset: str, class_name: str) -> dict[str, Any]:
    """The entry of a table of presets. Raises VlawError where there is none of that class."""
    fitting = [name for name, entry in table.items() if entry["class"] == class_name]
    if preset not in fitting:
        raise VlawError(
            f"preset {preset!r} is no {class_name}", where="--preset", remedy=f"Give one of: {', '.join(fitting)}."
        )
    return dict(table[preset])


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
