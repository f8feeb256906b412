"""Partitions in Dagster: those of recipes, in a useful order, with as many iterations as each has."""

from __future__ import annotations

import dagster as dg
import pytest
from factories import write_recipe

from vlaw_assets.definitions import build_defs
from vlaw_assets.pipeline import partitions
from vlaw_assets.pipeline.resources import Workplace
from vlaw_assets.recipes.loading import recipe_files

TYPED = ("smoke", "smoke|1", "smoke|x", "smoke|09", "nobody|01")
"""In the UI anybody can add a partition of any name."""


@pytest.fixture
def instance(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


def there(instance) -> list[str]:
    return list(instance.get_dynamic_partitions(partitions.LOOP.name))


def test_every_recipe_has_its_iterations_and_no_more(instance, tmp_path):
    write_recipe(tmp_path / "recipes", "mine", iterations=3)
    partitions.prepare(instance, tmp_path / "recipes")
    keys = there(instance)
    assert keys[:3] == ["vlaw|01", "vlaw|02", "smoke|01"]
    assert [key for key in keys if key.startswith("mine|")] == ["mine|01", "mine|02", "mine|03"]
    assert {key.split("|")[0] for key in keys} == set(recipe_files(tmp_path / "recipes")), "no study's arms"
    assert len(keys) < 60
    partitions.prepare(instance, tmp_path / "recipes")
    assert there(instance) == keys


def test_a_faulty_recipe_has_none_and_hides_no_other(instance, tmp_path):
    (tmp_path / "faulty.toml").write_text("iterations = 'two'")
    partitions.prepare(instance, tmp_path)
    assert "vlaw|01" in there(instance)
    assert not [key for key in there(instance) if key.startswith("faulty")]


def test_what_was_made_stays_whatever_became_of_its_recipe(instance):
    instance.report_runless_asset_event(dg.AssetMaterialization("loop_state", partition="gone|02"))
    partitions.prepare(instance, None)
    assert there(instance)[-1] == "gone|02"


@pytest.mark.slow
@pytest.mark.parametrize("arms", [80, 150])
def test_of_more_than_are_plotted_those_come_last_that_were_made(instance, arms):
    """The UI plots the last ones."""
    partitions.prepare(instance, None)
    added = there(instance)
    recipes, new = len(added), partitions.PLOTTED - 10
    studied = [f"claims-vlaw-s{number}|01" for number in range(arms)]
    instance.add_dynamic_partitions(partitions.LOOP.name, [*studied, *(f"claims-new-s{n}|01" for n in range(new))])
    for key in ("vlaw|01", "filtered_bc|02", *studied):
        instance.report_runless_asset_event(dg.AssetMaterialization("loop_state", partition=key))
    partitions.prepare(instance, None)
    plotted = instance.event_log_storage.get_paginated_dynamic_partitions(
        partitions.LOOP.name, limit=partitions.PLOTTED, ascending=False
    ).results
    kept = min(arms, 118)
    assert {*plotted} >= {"vlaw|01", *studied[-kept:]}
    assert ("filtered_bc|02" in plotted) is (arms < 118), "the oldest go where there is no room"
    keys = there(instance)
    assert len(keys) == len({*keys}) == recipes + arms + new
    partitions.prepare(instance, None)
    assert there(instance) == keys


def test_the_sensor_follows_the_recipes(instance, tmp_path):
    recipes = tmp_path / "recipes"
    write_recipe(recipes, "mine", iterations=2)
    defs = build_defs(lake=tmp_path / "lake", recipes=recipes)
    sensor = defs.resolve_sensor_def("recipes")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING

    def tick():
        place = Workplace(lake=str(tmp_path / "lake"), recipes=str(recipes))
        context = dg.build_sensor_context(instance=instance, definitions=defs, resources={"workplace": place})
        found = sensor(context)
        for request in found.dynamic_partitions_requests:
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
            else:
                for key in request.partition_keys:
                    instance.delete_dynamic_partition(request.partitions_def_name, key)
        return found.skip_reason.skip_message if found.skip_reason else None

    assert tick() is None
    assert {"mine|01", "mine|02", "vlaw|01"} <= set(there(instance))
    assert "as the recipes are" in tick()
    instance.report_runless_asset_event(dg.AssetMaterialization("loop_state", partition="mine|01"))
    instance.add_dynamic_partitions(partitions.LOOP.name, ["smoke-smoke-s0|01", "claims-nothing-s0|01", *TYPED])
    (recipes / "mine.toml").unlink()
    tick()
    assert "mine|02" not in there(instance), "nothing was made of it"
    assert {"mine|01", "smoke-smoke-s0|01"} <= set(there(instance))
    assert not {*TYPED} & {*there(instance)}
    assert "claims-nothing-s0|01" not in there(instance)
    assert not (tmp_path / "lake").exists(), "looking makes no lake"
