"""What travels to workers arrives as it was, and what VLAW_ENGINE says is understood or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from factories import commit, episode, write_toml

from vlaw_assets.engines import files
from vlaw_assets.engines.settings import Settings, options_of, read_settings, usable
from vlaw_assets.engines.slurm import SlurmOptions
from vlaw_assets.lake import Lake
from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.sources import Frames, cut, gather


def same(one, other):
    if isinstance(one, np.ndarray):
        return other.dtype == one.dtype and other.shape == one.shape and other.tobytes() == one.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dict__"):
        return type(one) is type(other) and same(vars(one), vars(other))
    return type(one) is type(other) and one == other


def test_what_travels_arrives_as_it_was(tmp_path):
    made = episode(success=None, cameras=("a", "b"), noise=1, extra={"rewards": [0.1, 1.0], "steps_saved": 3})
    part = {
        "begin": 4,
        "items": [made, Start("stack", 3, images=made.images[0], latents=np.float16([[1.5]]))],
        "scores": np.array([0.1, np.nan]),
        "none": np.zeros((0, 3), np.float32),
        "one": np.array(2.5, np.float32),
    }
    listed = files.put(tmp_path / "0000.safetensors", part)
    assert same(part, files.get(tmp_path / listed["file"], listed["sha256"]))
    files.put(tmp_path / "number", {"x": np.float32(0.1), "y": np.bool_(1)})
    assert files.get(tmp_path / "number", files.sha256_of(tmp_path / "number")) == {
        "x": float(np.float32(0.1)),
        "y": True,
    }
    assert files.put(tmp_path / "0001.safetensors", part)["sha256"] == listed["sha256"], "same value, same bytes"
    settings = {"config": ImagineConfig(done_above=0.9), "robot": SPEC, "seed": 2}
    assert files.of_json(json.loads(json.dumps(files.as_json(settings)))) == settings
    assert files.of_json(files.as_json(settings))["robot"] is SPEC


def test_frames_of_a_lake_travel_as_they_are_stored_and_are_decoded_where_they_are_used(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    made = [episode("stack", seed, cameras=("a", "b"), size=(48, 48), noise=seed, steps=5) for seed in range(3)]

    def write(draft):
        draft.write_episodes(made, purpose="imagined", world="world_model", policy="p", world_model="w")

    source = lake.read(commit(lake, "imagined_rollouts", "vlaw|01", {}, write)).source()
    cut_short = replace(source[2], images=cut(source[2].images, 2))
    listed = files.put(tmp_path / "x", {"items": [source[0], source[1], cut_short]})
    stored = sum(len(data) for index, steps in enumerate((6, 6, 2)) for data in source.stored(index, steps))
    assert listed["size"] < stored + 10_000, "with states, actions and words"
    found = files.get(tmp_path / "x", listed["sha256"])["items"]
    for there, here in zip(found, [source[0], source[1], cut_short], strict=True):
        assert isinstance(there.images, Frames)
        assert there.images.shape == here.images.shape
        assert np.array_equal(there.images, here.images)
        assert np.array_equal(there.images[[1, 0, 1]][:, [1]], np.asarray(here.images)[[1, 0, 1]][:, [1]])
        assert same((there.episode_id, there.states), (here.episode_id, here.states))
    assert np.array_equal(gather([e.images for e in found], [(1, 3), (0, 2)])[0], source[1].images[3])


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$kind": "x"}, {"a": {1, 2}}, np.array([None])])
def test_other_values_do_not_travel(tmp_path, value):
    with pytest.raises((TypeError, ValueError)):
        files.put(tmp_path / "x", {"value": value})


@pytest.mark.parametrize("kind", ["os:system", "vlaw_models.errors:VlawError", "vlaw_models.checkpoint:load_config"])
def test_a_file_makes_nothing_but_values(kind):
    with pytest.raises(TypeError, match="nothing that travels"):
        files.of_json({"$kind": kind, "value": {}})


def test_bytes_that_were_not_listed_are_refused(tmp_path):
    listed = files.put(tmp_path / "0000.safetensors", {"x": np.arange(5)})
    path = tmp_path / listed["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(VlawError, match="sha256"):
        files.get(path, listed["sha256"])
    with pytest.raises(VlawError, match="cannot be read"):
        files.get(tmp_path / "nowhere", listed["sha256"])
    path.write_bytes(b"\x01")
    with pytest.raises(VlawError, match="cannot be read"):
        files.get(path, files.sha256_of(path))


def test_an_engine_is_a_name_or_a_file(tmp_path):
    assert read_settings("") == Settings()
    assert read_settings("subprocess").engine == "subprocess"
    path = write_toml(tmp_path / "e.toml", {"engine": "slurm", "workers": 3, "slurm": {"partition": "gpu"}})
    found = read_settings(str(path))
    assert (found.engine, found.workers, found.options) == ("slurm", 3, {"partition": "gpu"})
    assert found.for_training() == found


SLURM = {"partition": "gpu", "gpus_per_node": 1}


def by_slurm(tmp_path, own):
    """A file whose trainings have these keys of their own."""
    values = {"engine": "slurm", "slurm": SLURM, "training": {"processes": 8, "slurm": own}}
    return str(write_toml(tmp_path / "e.toml", values))


def test_a_training_has_resources_of_its_own(tmp_path):
    found = read_settings(by_slurm(tmp_path, {"gpus_per_node": 8, "timeout_min": 1440}))
    assert found.options == SLURM, "those of the workers stay"
    assert found.training == {"processes": 8, "arguments": []}
    options = options_of(found.for_training(), SlurmOptions)
    assert (options.partition, options.gpus_per_node, options.timeout_min) == ("gpu", 8, 1440)
    with pytest.raises(VlawError, match=r"training.slurm has a value"):
        read_settings(by_slurm(tmp_path, 8))


def test_a_key_of_a_trainings_own_that_does_not_fit_is_told_before_anything_runs(tmp_path):
    file = by_slurm(tmp_path, {"gpus": 8})
    with pytest.raises(VlawError, match="'gpus'") as caught:
        usable(file)
    assert caught.value.where == f"{file}, [training.slurm]"
    assert "gpus_per_node" in caught.value.remedy


def test_a_file_may_say_in_process(tmp_path):
    file = str(write_toml(tmp_path / "e.toml", {"engine": "in_process"}))
    assert usable(file) == file
    assert read_settings(file).engine == read_settings("").engine == "in_process"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"engine": "cloud"}, "no engine 'cloud'"),
        ({"engine": "ray", "worker": 2}, "unknown keys: worker"),
        ({"engine": "ray", "slurm": {}}, "unknown keys: slurm"),
        ({"engine": "ray", "workers": 0}, "workers"),
        ({"engine": "ray", "workers": True}, "workers"),
        ({"engine": "ray", "limit_s": -1}, "limit_s"),
        ({"engine": "ray", "threads": "8"}, "threads"),
        ({"engine": "ray", "ray": 3}, "ray"),
        ({"engine": 3}, "no engine 3"),
        ({"engine": "in_process", "training": {"processes": 2}}, "in_process starts no workers"),
        ({"engine": "in_process", "in_process": {"gpus": 2}}, "in_process starts no workers"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, values, said):
    with pytest.raises(VlawError, match=said):
        read_settings(str(write_toml(tmp_path / "e.toml", values)))


def test_a_file_that_is_not_there_or_no_toml_is_refused(tmp_path):
    (tmp_path / "bad.toml").write_text("engine = ")
    for given in ("bad.toml", "nowhere.toml"):
        with pytest.raises(VlawError, match="cannot be read"):
            read_settings(str(tmp_path / given))
    with pytest.raises(VlawError, match="there is no engine"):
        read_settings("subproces")
