"""docs/extending.md as it is written: a robot, a learner and a backbone in one file each, in a package outside."""

from __future__ import annotations

import re
import sys
import tomllib

import numpy as np
import pytest
import torch
from factories import write_recipe
from scratch_package import install

from vlaw_assets import definitions  # noqa: F401 (defines the stages)
from vlaw_assets.assets.making import STAGES
from vlaw_assets.pipeline import read_code
from vlaw_assets.pipeline.code_identity import ROOT
from vlaw_assets.pipeline.plugins import STAGE, code_parts
from vlaw_assets.recipes import find_recipe
from vlaw_models.autoencoders.base import build_autoencoder
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import LEARNERS, Candidate
from vlaw_models.robots.registry import ROBOTS, find_robot
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld
from vlaw_models.world_models.registry import WORLD_MODELS

PAGE = (ROOT / "docs" / "extending.md").read_text()
SIZE = 48


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The package of the page, installed."""
    blocks = re.findall(r"```python\n# (lab/\w+\.py)\n(.*?)```", PAGE, re.DOTALL)
    (points,) = [text for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if '"lab.' in text]
    entries = tomllib.loads(points)["project"]["entry-points"]
    files = {"lab/__init__.py": "", **dict(blocks)}
    assert len(files) == 1 + sum(map(len, entries.values())), "one file each"
    install(tmp_path / "site", "lab", files, entries)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    find_robot.cache_clear()
    yield tmp_path / "site"
    find_robot.cache_clear()
    for cached in (read_code.file_of, read_code.names_in, read_code.spec_of):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]


def test_the_robot_the_learner_and_the_backbone_are_found(lab, tmp_path):
    robot = find_robot("lab_arm")
    assert (robot.camera_names, robot.control_hz, len(robot.state)) == (("front", "hand"), 10.0, 4)
    recipes = tmp_path / "recipes"
    rollouts = {"source": "recorded:lab"}
    write_recipe(
        recipes, "mine", None, robot="lab_arm", tasks=["shelve"], rollouts=rollouts, policy={"learner": "recent"}
    )
    recipe = find_recipe("mine", recipes)
    assert (recipe.robot, recipe.policy.learner) == ("lab_arm", "recent")
    assert type(recipe.learner).__name__ == "Recent"
    old, new = (Candidate(name, "owner", "shelve", "real", 1.0, newest=name == "new") for name in ("old", "new"))
    members, _ = recipe.learner.members([old, new], alpha=0.5)
    assert [member.episode_id for member in members] == ["new"]
    write_recipe(recipes, "other", None, robot="lab_leg")
    with pytest.raises(VlawError, match="no robot 'lab_leg'") as caught:
        find_recipe("other", recipes)
    assert "lab_arm" in caught.value.remedy


def test_the_backbone_imagines_what_the_robot_may_do(lab, tmp_path):
    robot = find_robot("lab_arm")
    backbone = WORLD_MODELS.load("Steady", where="here")
    sizes = {"latent_channels": 48, "latent_height": SIZE // 4, "latent_width": SIZE // 4, "channels": (32, 64)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone(backbone.config_class(**sizes, **backbone.of_robot(robot))).save(tmp_path / "model")
    world = ImaginedWorld(
        load_world_model(tmp_path / "model"),
        build_autoencoder({"class": "FoldedPixels", "sizes": {"fold": 4}}, seed=0),
        robot,
    )
    picture = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    world.reset([Start("shelve", 0, "put the cup on the shelf", picture, np.zeros(4, np.float32), "e0")])
    far = np.full((1, 4, 4), 9.0, np.float32)
    moved = world.step(far)
    assert moved.images.shape == (1, 4, 2, SIZE, SIZE, 3)
    np.testing.assert_allclose(moved.states[0, :, 0], [0.05, 0.1, 0.15, 0.2], atol=1e-6)


def test_their_source_is_code_of_what_they_make(lab):
    names = frozenset({(ROBOTS.group, "lab_arm"), (LEARNERS.group, "recent"), (WORLD_MODELS.group, "Steady")})
    found = {asset: code_parts(STAGES[asset].make.__module__, names, "a test") for asset in STAGES}
    robot, learner, model = (
        f"{kind} of package lab" for kind in ("robot 'lab_arm'", "learner 'recent'", "world model 'Steady'")
    )
    assert found["real_rollouts"].keys() == {STAGE, robot}
    assert learner in found["training_set"]
    assert {STAGE, model} <= found["imagined_rollouts"].keys()
