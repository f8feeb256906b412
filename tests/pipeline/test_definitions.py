"""The code location: what loads, and how the graph hangs together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
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
    outside = {"recorded_episodes", "quarantine", "labels"}
    assert set(specs) == {*FOUNDATION_ASSETS, *LOOP_ASSETS, *outside}
    partitions = {name: specs[name].partitions_def for name in LOOP_ASSETS}
    assert len(set(map(str, partitions.values()))) == 1, "one run = one iteration needs one partitions definition"
    assert all(specs[name].partitions_def is None for name in FOUNDATION_ASSETS)
    keys = partitions["policy"].get_partition_keys()
    assert {"vlaw|01", "filtered_bc|02", "smoke|10", "claims-vlaw-s2|02"} <= set(keys)
    assert all(spec.description and bool(spec.code_version) == (name not in outside) for name, spec in specs.items())
    assert not any(specs[name].deps for name in outside), "no run makes them"


def test_the_documented_selection_is_a_whole_iteration(defs):
    from vlaw_assets.pipeline.jobs import ITERATION_DESCRIPTION, ITERATION_SELECTION

    graph = defs.resolve_asset_graph()
    selected = dg.AssetSelection.from_string(ITERATION_SELECTION).resolve(graph)
    assert {key.to_user_string() for key in selected} == set(LOOP_ASSETS)
    assert f"--select '{ITERATION_SELECTION}'" in ITERATION_DESCRIPTION
    job = defs.resolve_job_def("iteration")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == set(LOOP_ASSETS)


def test_every_loop_asset_descends_from_loop_state_and_not_from_itself(defs):
    graph = defs.resolve_asset_graph()
    below = {key.to_user_string() for key in dg.AssetSelection.assets("loop_state").downstream().resolve(graph)}
    assert below == set(LOOP_ASSETS)
    above = dg.AssetSelection.assets("loop_state").upstream().resolve(graph)
    assert {key.to_user_string() for key in above} & set(LOOP_ASSETS) == {"loop_state"}, (
        "the loop closes in the ledger only"
    )


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


def test_models_run_one_at_a_time(defs):
    pools = {
        asset.key.to_user_string(): asset.op.pool
        for asset in defs.resolve_asset_graph().assets_defs
        if asset.is_executable
    }
    for name in ("policy", "world_model", "imagined_rollouts", "reward_scores", "policy_evaluation", "real_rollouts"):
        assert pools[name] == "accelerator", name


def test_own_recipes_become_partitions(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\n')
    defs = build_defs(lake=tmp_path / "lake", recipes=tmp_path)
    policy = next(spec for spec in defs.resolve_all_asset_specs() if spec.key.to_user_string() == "policy")
    assert "mine|03" in policy.partitions_def.get_partition_keys()


def test_partition_keys_go_both_ways_and_end_at_ten():
    assert split_partition(partition_of("a_b-c", 7)) == ("a_b-c", 7)
    assert partition_of("vlaw", 2) == "vlaw|02"
    with pytest.raises(VlawError, match="iteration 11"):
        partition_of("vlaw", 11)


# Dagster 1.13 gives every run of two partition dimensions tags with two slashes, and warns of them: no other way to ask
# for such a run leaves them out. Of tags and calls that are ours it has nothing to say.
@pytest.mark.filterwarnings(r"ignore:Non-compliant tag keys like \['dagster/partition/:DeprecationWarning")
@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_advance_sensor_is_off_until_switched_on_and_stops_at_the_last_iteration(tmp_path):
    from vlaw_assets.pipeline.resources import Workplace

    defs = build_defs(lake=tmp_path / "lake")
    sensor = defs.resolve_sensor_def("advance")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED

    def asked_after(key: str):
        with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
            instance.report_runless_asset_event(dg.AssetMaterialization("iteration_report", partition=key))
            context = dg.build_sensor_context(
                instance=instance, definitions=defs, resources={"workplace": Workplace(lake=str(tmp_path / "lake"))}
            )
            requests = sensor.evaluate_tick(context).run_requests or []
            assert all(tag.startswith("dagster/") for request in requests for tag in request.tags), "none of our own"
            return [request.partition_key for request in requests]

    assert asked_after("vlaw|01") == ["vlaw|02"]
    assert asked_after("vlaw|02") == []


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
