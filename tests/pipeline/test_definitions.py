"""The code location: what loads, and how the graph hangs together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from smoke_place import FOUNDATION_ASSETS, LOOP_ASSETS

from vlaw_assets.definitions import build_defs
from vlaw_assets.partitions import partition_of, split_partition
from vlaw_assets.pipeline import driver
from vlaw_models.errors import VlawError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def defs(tmp_path):
    return build_defs(lake=tmp_path / "lake")


def in_fresh_python(text: str) -> str:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def test_loading_the_definitions_imports_nothing_heavy():
    loaded = json.loads(
        in_fresh_python("import json, sys, vlaw_assets.definitions; print(json.dumps(list(sys.modules)))")
    )
    heavy = {
        "torch",
        "diffusers",
        "transformers",
        "lance",
        "mujoco",
        "deltalake",
        "duckdb",
        "pyarrow",
        "pandas",
        "numpy",
        "pandera",
        "matplotlib",
        "PIL",
    }
    assert not heavy & set(loaded)


def test_definitions_are_loadable_and_complete(defs):
    dg.Definitions.validate_loadable(defs)
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    outside = {"recorded_episodes", "recorded_statistics", "quarantine", "labels", "refused_recordings"}
    assert set(specs) == {*FOUNDATION_ASSETS, "near_success", *LOOP_ASSETS, *outside}
    partitions = {name: specs[name].partitions_def for name in LOOP_ASSETS}
    assert len(set(map(str, partitions.values()))) == 1, "one run = one iteration needs one partitions definition"
    assert all(specs[name].partitions_def is None for name in FOUNDATION_ASSETS)
    assert all(spec.description and bool(spec.code_version) == (name not in outside) for name, spec in specs.items())
    assert not any(specs[name].deps for name in outside), "no run makes them"
    assert all(spec.owners and spec.kinds and spec.tags["about"] for spec in specs.values())


def test_every_asset_links_to_the_function_that_makes_it(defs):
    for asset in defs.resolve_asset_graph().assets_defs:
        for key, metadata in asset.metadata_by_key.items() if asset.is_executable else ():
            code, page = metadata["dagster/code_references"].code_references
            line = Path(code.file_path).read_text().splitlines()[code.line_number - 1]
            assert line.startswith(("def make", "def _make")), (key, code)
            assert Path(page.file_path) == ROOT / "docs" / "assets.md"


def test_the_job_iteration_is_a_whole_iteration(defs):
    job = defs.resolve_job_def("iteration")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == set(LOOP_ASSETS)


def test_arrows_between_groups_go_one_way(defs):
    group = {spec.key: spec.group_name for spec in defs.resolve_all_asset_specs()}
    arrows = {(group[dep.asset_key], group[spec.key]) for spec in defs.resolve_all_asset_specs() for dep in spec.deps}
    assert ("iteration", "evaluation") in arrows
    assert not {(after, before) for before, after in arrows if before != after} & arrows


def test_every_loop_asset_descends_from_loop_state_and_not_from_itself(defs):
    graph = defs.resolve_asset_graph()
    below = {key.to_user_string() for key in dg.AssetSelection.assets("loop_state").downstream().resolve(graph)}
    assert below == set(LOOP_ASSETS)
    above = dg.AssetSelection.assets("loop_state").upstream().resolve(graph)
    assert {key.to_user_string() for key in above} & set(LOOP_ASSETS) == {"loop_state"}, (
        "the loop closes in the ledger only"
    )


def test_a_backfill_of_assets_looks_for_no_recording_of_an_iterations_name(defs):
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("iteration", ["smoke|01"])
    view = AssetGraphView.for_test(defs, instance)
    for key in map(dg.AssetKey, LOOP_ASSETS):
        for parent in defs.resolve_asset_graph().get(key).parent_keys:
            asked = view.get_full_subset(key=key)
            _, missing = view.compute_parent_subset_and_required_but_nonexistent_subset(parent, asked)
            assert missing.is_empty, (key, parent)


def test_checks_block(defs):
    checks = [spec for asset in defs.resolve_asset_graph().assets_defs for spec in asset.check_specs]
    assert {spec.name for spec in checks} == {
        "schema",
        "finite",
        "counts",
        "starts_equal_real",
        "success_varies",
        "starts_held_out",
        "simulator_knows",
        "promoted",
    }
    assert all(spec.blocking for spec in checks)
    specs = {spec.key: spec for spec in defs.resolve_all_asset_specs()}
    assert all(spec.partitions_def == specs[spec.asset_key].partitions_def for spec in checks), (
        "a check that fails in one partition says nothing of the others"
    )


def test_models_run_one_at_a_time(defs):
    pools = {
        asset.key.to_user_string(): asset.op.pool
        for asset in defs.resolve_asset_graph().assets_defs
        if asset.is_executable
    }
    for name in ("policy", "world_model", "imagined_rollouts", "reward_scores", "policy_evaluation", "real_rollouts"):
        assert pools[name] == "accelerator", name


def test_partition_keys_go_both_ways_and_end_at_ten():
    assert split_partition(partition_of("a_b-c", 7)) == ("a_b-c", 7)
    assert partition_of("vlaw", 2) == "vlaw|02"
    with pytest.raises(VlawError, match="iteration 11"):
        partition_of("vlaw", 11)


@pytest.mark.parametrize("job", ["foundation", "iteration"])
def test_a_runs_configuration_says_what_to_do_again_and_no_place(job):
    """Whoever may start a run may not choose where it reads and writes."""
    defs = build_defs(lake="unused")
    definition = defs.resolve_job_def(job)

    def leaves(config_type, path=()):
        fields = getattr(config_type, "fields", None)
        if not fields:
            return {path}
        return set().union(*(leaves(field.config_type, (*path, name)) for name, field in fields.items()))

    found = leaves(definition.run_config_schema.config_type)
    assets = {key.to_user_string() for key in definition.asset_layer.executable_asset_keys}
    assert {path for path in found if path[0] == "ops"} == {("ops", name, "config", "force") for name in assets}
    assert {path for path in found if path[0] == "resources"} == {
        ("resources", name, "config") for name in ("workplace", "io_manager")
    }
    assert {path[0] for path in found} == {"ops", "resources", "loggers", "execution"}
    for name in ("workplace", "io_manager"):
        assert definition.resource_defs[name].config_schema.config_type.fields == {}, "no key at all is taken"


def test_dagster_yaml_and_workspace_are_what_the_driver_uses():
    assert (ROOT / "dagster_home" / "dagster.yaml").read_text() == driver.DAGSTER_YAML
    assert "module_name: vlaw_assets.definitions" in (ROOT / "workspace.yaml").read_text()
