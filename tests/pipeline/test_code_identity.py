"""An artifact's code is all that its stage can reach, and nothing else: held against another reading of the imports."""

from __future__ import annotations

import io
import subprocess
import sys
import tokenize

import pytest
from code_copies import (
    LOADED_BY_NAME,
    RUN_LEARNERS,
    SIMULATES,
    SIMULATORS,
    code_of,
    files,
    imported,
    module_of,
)

import vlaw_assets.definitions  # noqa: F401 (names every stage)
from vlaw_assets.assets.making import STAGES
from vlaw_assets.importers.registry import COMMIT
from vlaw_assets.pipeline import code_identity
from vlaw_assets.pipeline.code_identity import FOUND_BY_NAME, code_digest, sources
from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.learners.base import LEARNERS
from vlaw_models.policies.registry import POLICIES
from vlaw_models.reward_models.registry import REWARD_MODELS
from vlaw_models.robots.registry import ROBOTS
from vlaw_models.world_models.registry import WORLD_MODELS


def test_code_of_a_stage_is_what_an_independent_reading_of_the_imports_says():
    for asset in STAGES:
        assert set(sources(module_of(asset))) == code_of(asset), asset
    assert all(path == files()[module] for module, path in sources(module_of("policy")).items())


def test_code_of_a_stage_is_what_it_needs_and_no_more():
    code = {asset: code_of(asset) for asset in STAGES}
    everything = set.intersection(*code.values())
    assert {
        f"vlaw_assets.lake.{name}" for name in ("handles", "episodes", "frames", "rows", "selection", "quarantine")
    } < everything
    assert {"vlaw_assets.pipeline.checks", "vlaw_models.config", "vlaw_assets.recipes"} < everything
    assert "vlaw_models.rollouts.rollout" in code["real_rollouts"], "imports inside functions count"
    assert "vlaw_models.robots.tabletop.tasks.stack" in code["real_rollouts"] & code["expert_demonstrations"]
    assert {f"vlaw_models.policies.{name}" for name in ("flow_policy", "pi0", "noise_policy")} < code["policy"], (
        "found by name"
    )
    # A policy's stopping point is measured on the robot, so its code is the robot's too; the other learners never see
    # it.
    robot = "vlaw_models.robots.tabletop.world"
    assert [asset for asset in ("policy", "world_model", "reward_model") if robot in code[asset]] == ["policy"]
    assert "vlaw_assets.assets.promotion" in code["loop_state"]
    assert "vlaw_assets.reports.success" in code["policy_evaluation"] & code["iteration_report"]
    for asset, kinds in {
        "world_model": ("policies", "reward_models"),
        "expert_demonstrations": LOADED_BY_NAME,
    }.items():
        assert not [name for name in code[asset] for kind in kinds if name.startswith(f"vlaw_models.{kind}")], asset
    stages = {module_of(asset) for asset in STAGES}
    assert all(code[asset] & stages == {module_of(asset)} for asset in STAGES), "no stage's file is another's code"
    for apart in (
        "cli",
        "query",
        "lineage",
        "studies.running",
        "studies.record",
        "studies.order",
        "studies.partition",
        "reports.study",
        "reports.plots",
        "importers",
        "pipeline.mirror",
        "pipeline.progress",
        "pipeline.reconcile",
        "pipeline.driver",
        "lake.upkeep",
    ):
        assert not [name for name in set.union(*code.values()) if f"{name}.".startswith(f"vlaw_assets.{apart}.")], apart


def test_what_is_found_by_name_is_code_of_whoever_runs_it():
    learners = {f"vlaw_models.learners.{name}" for name in ("dsrl", "grpo_learner", "imitation", "recap")}
    assert {target.partition(":")[0] for target in LEARNERS.shipped.values()} == learners
    named = {ROBOTS.load(name, where="here").simulator.partition(":")[0] for name in ROBOTS.shipped}
    assert named - {""} == set(SIMULATORS)
    assert FOUND_BY_NAME[SIMULATES] == "vlaw_models.robots.registry"
    runs = {module for module, path in files().items() if ".learner.members(" in path.read_text()}
    fits = {module for module, path in files().items() if "learner.fit(" in path.read_text()}
    assert runs | fits == set(RUN_LEARNERS)
    assert {module for module, registry in FOUND_BY_NAME.items() if registry == "vlaw_models.learners.base"} == {
        *RUN_LEARNERS
    }
    assert all(learners < sources(module).keys() for module in RUN_LEARNERS)
    for kind, registry in zip(LOADED_BY_NAME, [POLICIES, WORLD_MODELS, AUTOENCODERS, REWARD_MODELS], strict=True):
        assert registry.group == f"vlaw.{kind}"
        assert code_identity.registries_of(f"vlaw_models.{kind}.base") == (registry,)
        loads = {module for module in files() if f"vlaw_models.{kind}.registry" in imported(module)}
        # These refuse what does not fit, or are found by a name of their own; who else loads by name reaches the base.
        others = {"vlaw_models.policies.noise_policy", "vlaw_assets.recipes.fit", "vlaw_models.published.checking"}
        others |= {"vlaw_assets.engines.forked"}  # whose workers are told which module runs it
        assert f"vlaw_models.{kind}.base" in loads
        assert all(f"vlaw_models.{kind}.base" in sources(module) for module in loads - others)
        for target in registry.shipped.values():
            assert target.partition(":")[0] in sources(f"vlaw_models.{kind}.base"), target
    by_name = {
        module
        for module, path in files().items()
        if "import_module(" in path.read_text() or "__import__(" in path.read_text()
    }
    assert by_name == {"vlaw_models.registry", "vlaw_assets.pipeline.code_identity"}


def test_a_module_with_a_registry_is_quick_to_import():
    holders = [module for module, path in files().items() if " = Registry(" in path.read_text()]
    assert set(FOUND_BY_NAME.values()) < set(holders)
    slow = "{'torch', 'mujoco', 'lance', 'dagster'}"
    code = f"import sys, {', '.join(holders)}; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_import_is_an_import_the_code_of_the_importer_of_recordings_too():
    code = set(sources("vlaw_assets.importers.lerobot", COMMIT))
    assert {"vlaw_assets.importers.videos", "vlaw_assets.importers.lerobot_format", "vlaw_assets.lake.frames"} < code
    assert not {"vlaw_assets.importers.ctrl_world", "vlaw_models.policies.flow_policy"} & code, "nor another's"
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        code_digest("vlaw_models.no_such_thing")


def test_comments_and_blank_lines_do_not_count_but_what_looks_like_them_in_a_string_does(tmp_path):
    def digest(text):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        return code_identity.source_digest(path)

    code = 'def f(x):\n    text = """\n# heading\n\nend"""\n    return x + 1, "#", \'"\'\n'
    same = code.replace("def f", "# why\n\n\ndef f").replace("    return", "    # because\n\n    return")
    assert digest(same) == digest(code.replace("'\n", "'  # so\n")) == digest(code)
    others = [
        code.replace("x + 1", "x + 2"),
        code.replace("# heading", "# other"),
        code.replace("\n\nend", "\nend"),
        code.replace('"#"', '"# "'),
        code.replace("    return", "return"),
    ]
    assert len({digest(text) for text in [code, *others]}) == len(others) + 1


def test_comments_are_found_as_the_tokenizer_finds_them():
    for path in files().values():
        text = path.read_text()
        expected = [
            token.string
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT
        ]
        assert [found[0] for found in code_identity.TOKEN.finditer(text) if found[1] is None] == expected, path
