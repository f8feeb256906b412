"""Weights that are not what was said, are damaged, or are a pickle: refused before anything is written."""

from __future__ import annotations

import json

import published_layouts as layouts
import pytest
import torch
from published_layouts import clip, ctrl_world, ctrl_world_state, openpi, svd
from safetensors.torch import load_file, save_file

from vlaw_models.errors import VlawError
from vlaw_models.published.checking import check_weights
from vlaw_models.published.importing import import_weights
from vlaw_models.published.part import Options
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.robots.tabletop.spec import SPEC as TABLETOP


@pytest.fixture
def refused(tmp_path):
    """Imports, expects a refusal that says `what` and, as a remedy, `remedy`, and that nothing is written."""

    def of(kind, path, what, remedy="", **options):
        with pytest.raises(VlawError, match=what) as caught:
            import_weights(kind, path, tmp_path / "out", Options(DROID, **{"preset": "toy", **options}))
        assert remedy in caught.value.remedy
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    return of


def test_another_architecture_is_refused_and_its_keys_are_named(tmp_path, refused):
    told = refused("pi05", openpi("pi0", tmp_path / "pi0"), "not the weights of pi0.5", "vlaw weights import pi0`")
    assert "action_time_mlp_in.bias" in told, "unknown"
    assert "gemma_expert.model.layers.0.input_layernorm.dense" in told, "missing"
    told = refused("pi0", openpi("pi05", tmp_path / "pi05"), "not the weights of pi0;", "vlaw weights import pi05`")
    assert "input_layernorm.dense" in told
    assert "missing" in told
    told = refused("pi0", tmp_path / "pi0", "87 of another shape: action_in_proj.bias", preset="small")
    assert "(32, 8) for (256, 8)" in told
    refused("qwen3-vl", clip(tmp_path / "clip"), "this is a clip, not qwen3_vl")
    refused("clip", layouts.qwen3_vl(tmp_path / "qwen"), "this is no CLIP|not the weights of CLIP")
    file = ctrl_world(tmp_path / "wm.pt")
    refused("ctrl-world", file, "of another shape|missing", "--preset", clip=tmp_path / "clip", preset="small")


def test_one_key_too_many_or_too_few_is_named(tmp_path, refused):
    text, state = clip(tmp_path / "clip"), ctrl_world_state()
    torch.save({**state, "unet.conv_in.adapter": torch.ones(2)}, tmp_path / "more.pt")
    refused("ctrl-world", tmp_path / "more.pt", "1 unknown: unet.conv_in.adapter", clip=text)
    torch.save({key: one for key, one in state.items() if key != "unet.conv_out.bias"}, tmp_path / "less.pt")
    refused("ctrl-world", tmp_path / "less.pt", "1 missing: unet.conv_out.bias", clip=text)
    refused("ctrl-world", tmp_path / "less.pt", "reads the instruction by CLIP", "--clip FOLDER")
    folder = svd(tmp_path / "svd")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), "decoder.extra": torch.ones(1)}, file)
    refused("svd", folder, "1 unknown: decoder.extra")


class Code:
    """What must not run."""

    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_a_pickle_is_refused_and_its_conversion_told(tmp_path, refused):
    folder = tmp_path / "pickles"
    folder.mkdir()
    torch.save({"a": Code()}, folder / "pytorch_model.bin")
    refused("pi0", folder, "a pickle, which may run code", "safetensors.torch.save_file")
    refused("pi05", folder / "pytorch_model.bin", "a pickle, which may run code", "weights_only=True")
    text = clip(tmp_path / "clip")
    refused("ctrl-world", folder / "pytorch_model.bin", "would run code", "model.state_dict()", clip=text)
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    refused("ctrl-world", tmp_path / "list.pt", "no state dict of names and tensors", clip=text)


@pytest.mark.parametrize("left", [4, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, refused, left):
    folder, text = openpi("pi0", tmp_path / "pi0"), clip(tmp_path / "clip")
    for file, kind in ((folder / "model.safetensors", "pi0"), (ctrl_world(tmp_path / "wm.pt"), "ctrl-world")):
        whole = file.read_bytes()
        file.write_bytes(whole[:left] if left > 0 else whole[:-1])
        refused(kind, file, "truncated", "ownload", clip=text)


def in_two_shards(folder):
    """The same weights in two files and an index, as large models are published."""
    tensors = load_file(folder / "model.safetensors")
    names = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(tensors)}
    for shard in set(names.values()):
        save_file({name: tensors[name] for name, of in names.items() if of == shard}, folder / shard)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


def test_a_shard_that_is_missing_is_named(tmp_path, refused):
    folder = in_two_shards(openpi("pi0", tmp_path / "pi0"))
    found = import_weights("pi0", folder, tmp_path / "whole", Options(DROID, preset="toy"))
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) == 2
    assert not next(iter(found.values())).report.missing
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused("pi0", folder, "1 of 2 files of the weights are missing, e.g. model-00002")


@pytest.mark.parametrize("left", [4, 100, -1])
def test_a_shard_that_is_truncated_is_named(tmp_path, refused, left):
    folder = in_two_shards(openpi("pi0", tmp_path / "pi0"))
    second = folder / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:left])
    told = refused("pi0", folder, "truncated", "ownload")
    assert second.name in told
    assert "model-00001" not in told


def test_statistics_and_words_have_to_be_there(tmp_path, refused):
    folder = openpi("pi05", tmp_path / "pi05")
    stats = folder / "assets" / "droid" / "norm_stats.json"
    good = json.loads(stats.read_text())
    stats.write_text("{")
    refused("pi05", folder, "the statistics cannot be read", "--norm-stats")
    stats.write_text(json.dumps({"norm_stats": {"state": good["norm_stats"]["state"]}}))
    refused("pi05", folder, "the statistics lack q01 and q99", "--norm-stats")
    bad = json.loads(json.dumps(good))
    bad["norm_stats"]["actions"]["q99"][2] = -5.0
    stats.write_text(json.dumps(bad))
    refused("pi05", folder, "an empty range in dimension 2")
    for key in ("q01", "q99"):
        bad["norm_stats"]["actions"][key] = [float(key == "q99")] * 9
    stats.write_text(json.dumps(bad))
    refused("pi05", folder, "the statistics have 9 numbers, the policy takes 8", "--norm-stats")
    bad["norm_stats"]["actions"]["q99"] = [1.0, 2.0]
    stats.write_text(json.dumps(bad))
    refused("pi05", folder, r"shapes \(9,\) and \(2,\)")
    stats.unlink()
    refused("pi05", folder, "no statistics are beside the weights", "--norm-stats")
    stats.write_text(json.dumps(good))
    (folder / "tokenizer.json").write_text((tmp_path / "pi05" / "config.json").read_text())
    refused("pi05", folder, "the tokenizer cannot be read")
    (folder / "tokenizer.json").unlink()
    refused("pi05", folder, "vocabulary is not beside the weights", "--tokenizer FILE")
    words = clip(tmp_path / "clip") / "tokenizer.json"
    refused("pi05", folder, "it is not PaliGemma's", "--tokenizer", tokenizer=words)


def test_statistics_that_were_filled_up_with_zeros_are_cut(tmp_path):
    folder = openpi("pi05", tmp_path / "pi05")
    stats = folder / "assets" / "droid" / "norm_stats.json"
    given = json.loads(stats.read_text())
    for values in given["norm_stats"].values():
        for key in values:
            values[key] += [0.0] * 25
    stats.write_text(json.dumps(given))
    ((_, part),) = import_weights("pi05", folder, tmp_path / "out", Options(DROID, preset="toy")).items()
    assert "7 numbers of state, 7 of action, chunks of 8 (published)" in part.notes


def test_places_and_names_that_do_not_exist_are_refused(tmp_path, refused):
    refused("pi1", tmp_path, "there is no layout 'pi1'", "pi05")
    refused("pi0", tmp_path / "nowhere", "there is nothing to import")
    refused("pi0", tmp_path, "there are no weights", "model.safetensors")
    (tmp_path / "jax" / "params").mkdir(parents=True)
    refused("pi05", tmp_path / "jax", "openpi's weights for JAX", "convert_jax_model_to_pytorch.py")
    refused("pi0", openpi("pi0", tmp_path / "pi0"), "preset 'tiny' is no Pi0Policy", "paper", preset="tiny")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    with pytest.raises(VlawError, match="there is something already"):
        import_weights("pi0", tmp_path / "pi0", tmp_path / "full", Options(DROID, preset="toy"))
    assert [one.name for one in (tmp_path / "full").iterdir()] == ["note"]
    (tmp_path / "svd").mkdir()
    refused("svd", tmp_path / "svd", "the published configuration cannot be read")


def test_another_robot_has_other_cameras_and_is_told_of_other_numbers(tmp_path):
    folder = openpi("pi05", tmp_path / "pi05")
    ((_, part),) = import_weights("pi05", folder, tmp_path / "out", Options(TABLETOP, preset="toy")).items()
    assert part.notes[-2].startswith("robot 'tabletop' has 5 and 5: this policy acts in another space")


def test_a_checkpoint_with_a_number_that_is_none_is_refused(tmp_path):
    folder = openpi("pi0", tmp_path / "pi0")
    import_weights("pi0", folder, tmp_path / "out", Options(DROID, preset="toy"))
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    tensors["action_in_proj.weight"][0, 0] = float("nan")
    (tmp_path / "out" / "model.safetensors").unlink()
    save_file(tensors, tmp_path / "out" / "model.safetensors")
    with pytest.raises(VlawError, match="weight has numbers that are not finite"):
        check_weights(tmp_path / "out")
    with pytest.raises(VlawError, match='does not name a "class"'):
        check_weights(folder)
