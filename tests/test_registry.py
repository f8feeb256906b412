"""Registries: what a package adds is found by its entry point; what is wrong with one name leaves the others alone."""

from __future__ import annotations

import json
import sys

import pytest
import scratch_package

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.autoencoders.folded_pixels import FoldedPixels
from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import load_policy
from vlaw_models.registry import Registry


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a package of one module with entry points, for this test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(package: str, code: str, group: str, entries: dict[str, str]) -> None:
        scratch_package.install(tmp_path, package, {f"{package}.py": code}, {group: entries})

    yield put
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


THINGS = Registry("thing", "vlaw.test_things", {"own": "vlaw_models.errors:VlawError"})


def test_what_a_package_adds_is_found_and_an_unknown_name_lists_the_choices(install):
    install("useful", "THING = 7\n", THINGS.group, {"seven": "useful:THING"})
    assert THINGS.names() == ["own", "seven"]
    assert THINGS.load("seven", where="a recipe") == 7
    with pytest.raises(VlawError, match="no thing 'eight'") as error:
        THINGS.load("eight", where="a recipe")
    assert "own, seven" in error.value.remedy


def test_two_of_the_same_name_are_refused_by_name(install):
    install("first", "THING = 1\n", THINGS.group, {"one": "first:THING", "own": "first:THING"})
    install("second", "THING = 2\n", THINGS.group, {"one": "second:THING", "two": "second:THING"})
    with pytest.raises(VlawError, match="more than one thing is called 'one': of first and second"):
        THINGS.load("one", where="a recipe")
    with pytest.raises(VlawError, match="of vlaw and first"):
        THINGS.load("own", where="a recipe")
    assert THINGS.load("two", where="a recipe") == 2


def test_a_package_that_cannot_be_imported_is_named_and_the_rest_goes_on(install):
    install("broken", "import no_such_module\n", THINGS.group, {"bad": "broken:THING"})
    install("sound", "THING = 3\n", THINGS.group, {"good": "sound:THING"})
    with pytest.raises(VlawError, match="'bad' of package broken cannot be imported: ModuleNotFoundError"):
        THINGS.load("bad", where="a recipe")
    assert THINGS.load("good", where="a recipe") == 3


def test_a_model_class_is_one_file_and_an_entry_point(install, tmp_path):
    code = (
        "from vlaw_models.autoencoders.folded_pixels import FoldedPixels\n\n\n"
        "class Mine(FoldedPixels):\n    @classmethod\n    def load(cls, folder):\n        return cls()\n"
    )
    install("my_models", code, AUTOENCODERS.group, {"Mine": "my_models:Mine"})
    folder = FoldedPixels().save(tmp_path / "checkpoint")
    assert type(load_autoencoder(folder)) is FoldedPixels
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "class": "Mine"}))
    assert type(load_autoencoder(folder)).__name__ == "Mine"
    with pytest.raises(VlawError, match="'Mine' cannot be used as a policy") as error:
        load_policy(folder)
    assert "FlowPolicy, NoisePolicy, OpenVlaOftL1Policy, OpenVlaOftPolicy, Pi05Policy, Pi0Policy" in error.value.remedy
