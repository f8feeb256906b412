"""The page on the papers' sizes: its weights are imported as it says, in the published layouts at toy size."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import published_layouts as layouts
from documents import ROOT, blocks, commands
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.recipes import find_recipe, load_foundation
from vlaw_assets.recipes.fit import check_weights
from vlaw_assets.recipes.loading import PACKAGED

PAGE = ROOT / "docs" / "paper_size.md"


def published(folder: Path) -> dict[str, str]:
    """What the words in capitals stand for."""
    folder.mkdir()
    layouts.ctrl_world(folder / "ctrl_world.pt")
    layouts.svd(folder / "svd")
    layouts.clip(folder / "clip")
    layouts.qwen3_vl(folder / "qwen")
    policy = layouts.in_joints(layouts.openpi("pi05", folder / "pi05"))
    words = shutil.copy(next(policy.rglob("tokenizer.json")), folder / "tokenizer.json")
    names = {"CTRL_WORLD.pt": "ctrl_world.pt", "SVD": "svd", "CLIP": "clip", "QWEN": "qwen"}
    return {name: str(folder / at) for name, at in names.items()} | {"PI05": str(policy), "TOKENIZER.json": str(words)}


def test_every_import_of_the_page_works_and_its_foundation_finds_the_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = published(tmp_path / "published")
    said = [one.text for one in commands(PAGE) if one.text.startswith("vlaw weights")]
    assert len(said) == 6
    for text in said:
        toy = ["--preset", "toy"] if " import " in text else []
        done = CliRunner().invoke(app, [words.get(word, word) for word in shlex.split(text)[1:]] + toy)
        assert done.exit_code == 0, f"{text}: {done.output}"
    assert "a Pi05Policy, for weights.base_policy of foundation.toml" in done.output
    (table,) = (block.text for _, block in blocks(PAGE) if block.text.startswith("[weights]"))
    recipes = Path(shutil.copytree(PACKAGED / "paper_size", tmp_path / "recipes"))
    packaged = (recipes / "foundation.toml").read_text().replace('"paper"', '"toy"')
    (recipes / "foundation.toml").write_text(packaged.replace("[weights]\n", table))
    assert find_recipe("vlaw_droid", recipes).robot == load_foundation(recipes).robot == "droid_joint_velocity"
    weights = load_foundation(recipes).weights
    assert set(weights) == {"base_policy", "autoencoder", "world_model", "reward_model"}
    for name, folder in weights.items():
        assert (tmp_path / folder / "config.json").is_file(), folder
        check_weights(name, tmp_path / folder)


def test_the_packaged_recipe_minimises_eq_1_as_published():
    assert find_recipe("vlaw_droid", PACKAGED / "paper_size").world_model.change_weight == 0.0
