"""Dagster's UI as a person uses it, in a real browser: a first look by clicks, pages, refusals, ending, repeating."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from browser import Tab, tab
from smoke_place import new_place
from ui_server import Server, serving

from vlaw_assets.pipeline import driver, liveness

pytestmark = [pytest.mark.slow, pytest.mark.browser]

FIND = """(text => [...document.querySelectorAll("button, a, [role=button], [role=menuitem]")].find(
    item => item.innerText && item.innerText.trim().toLowerCase().startsWith(text.toLowerCase()) && !item.disabled))"""
TEXT = "document.body.innerText"
FIRST_LOOK_S = 900
"""Two minutes on two idle cores; other tests may run."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return new_place(tmp_path_factory.mktemp("browser") / "place")


@pytest.fixture(scope="module")
def server(place):
    with serving(place) as server:
        yield server


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with tab(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def ui(server, page):
    """Opens a path of the UI; in the end no page has complained."""
    page.messages.clear()

    def go(path: str) -> Tab:
        page.open(f"http://localhost:{server.port}{path}")
        return page

    yield go
    assert not [message for message in page.messages if '"error"' in message or "exceptionDetails" in message]


def click(page: Tab, text: str, *, opens: str = "") -> None:
    """`opens`: what is seen by it. A page that is still loading may not heed the first click."""
    page.until(f"{FIND}({json.dumps(text)}) !== undefined")
    for _ in range(10):
        page.run(f"{FIND}({json.dumps(text)}).click()")
        end = time.monotonic() + 5
        while opens and opens not in page.run(TEXT) and time.monotonic() < end:
            time.sleep(0.2)
        if opens in page.run(TEXT):
            return
    raise AssertionError(f"no {opens!r} after clicking {text!r}")


def sees(page: Tab, text: str) -> None:
    page.until(f"{TEXT}.includes({json.dumps(text)})")


def wait(seconds: float, done: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.2)


def runs(server: Server) -> list[dict]:
    return server.graphql("{ runsOrError { ... on Runs { results { runId jobName status } } } }")["runsOrError"][
        "results"
    ]


JOBS = "/locations/vlaw_assets.definitions/jobs"


def test_a_first_look_is_one_click_and_ends_in_pages_with_something_on_them(ui, server, place, monkeypatch):
    page = ui(f"{JOBS}/first_look/playground")
    click(page, "Launch run")
    wait(60, lambda: [run["jobName"] for run in runs(server)].count("first_look") == 1)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    with driver.open_instance() as instance:

        def over() -> bool:
            assert liveness.close_dead_runs(instance) == [], "a live run is never closed"
            return all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in runs(server))

        wait(FIRST_LOOK_S, over)
    assert sorted((run["jobName"], run["status"]) for run in runs(server)) == [
        ("first_look", "SUCCESS"),
        ("foundation", "SUCCESS"),
        ("iteration", "SUCCESS"),
    ]
    page = ui("/runs")
    sees(page, "partition: smoke|01")
    assert "vlaw_lock" not in page.run(TEXT), "what is ours alone is not in the list"
    page = ui("/assets/policy_evaluation?partition=smoke|01")
    sees(page, "success")
    page.until("[...document.images].some(image => image.naturalWidth > 0 && image.clientWidth > 200)")
    page = ui("/assets/policy_evaluation?view=overview&asset-events=plots")
    sees(page, "Metadata")


def test_the_partitions_that_are_offered_are_those_of_recipes(ui):
    page = ui(f"{JOBS}/iteration")
    click(page, "Materialize all", opens="Cancel")
    if "Are you sure?" in page.run(TEXT):  # Dagster's own words, where the foundation is missing
        click(page, "Confirm", opens="Launch runs")
    sees(page, "Launch runs to materialize 20 assets")
    sees(page, "Select a partition")
    page.run("[...document.querySelectorAll('*')].filter(x => /^Select a partition/.test(x.innerText)).at(-1).click()")
    for key in ("vlaw|01", "vlaw|02", "smoke|01"):
        sees(page, key)
    assert "claims-" not in page.run(TEXT), "no study's arms"


FAILED = """{ assetNodes { assetKey { path } partitionStats { numFailed }
    assetChecksOrError { ... on AssetChecks { checks { executionForLatestMaterialization { status } } } } } }"""


def test_a_refusal_is_said_in_words_before_any_step_and_nothing_turns_red(ui, server):
    run = server.launch("iteration", partition="vlaw|02", config={})["run"]["runId"]
    wait(90, lambda: server.status(run) == "CANCELED")
    page = ui(f"/runs/{run}")
    sees(page, "iteration 02 of vlaw needs 01")
    sees(page, "Materialize partition 'vlaw|01' first")
    nodes = server.graphql(FAILED)["assetNodes"]
    assert not [node["assetKey"] for node in nodes if (node["partitionStats"] or {}).get("numFailed")]
    checks = [check for node in nodes for check in node["assetChecksOrError"].get("checks", [])]
    said = {check["executionForLatestMaterialization"]["status"] for check in checks if any(check.values())}
    assert "SKIPPED" in said
    assert "EXECUTION_FAILED" not in said
    sees(ui("/assets/loop_state?view=partitions"), "Failed (0)")


def test_a_run_at_work_and_one_that_waits_end_when_they_are_told_to_and_can_be_repeated(ui, server, place, monkeypatch):
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    at_work = server.launch("iteration", partition="vlaw|01", config={})["run"]["runId"]
    wait(90, lambda: server.status(at_work) == "STARTED")
    waiting = server.launch("iteration", partition="filtered_bc|01", config={})["run"]["runId"]
    wait(30, lambda: server.status(waiting) == "QUEUED")
    with driver.open_instance() as instance:
        assert liveness.close_dead_runs(instance) == []
    page = ui(f"/runs/{waiting}")
    click(page, "Terminate", opens="Terminate run")
    begun = time.monotonic()
    page.run(
        "[...document.querySelectorAll('button')].filter(item => /^Terminate/.test(item.innerText)).at(-1).click()"
    )
    wait(20, lambda: server.status(waiting) == "CANCELED")
    assert time.monotonic() - begun < 5
    page = ui(f"/runs/{at_work}")
    click(page, "Terminate", opens="Terminate run")
    page.run(
        "[...document.querySelectorAll('button')].filter(item => /^Terminate/.test(item.innerText)).at(-1).click()"
    )
    wait(60, lambda: server.status(at_work) == "CANCELED")
    with driver.open_instance() as instance:
        events = [event.dagster_event for event in instance.all_logs(at_work) if event.dagster_event]
    ends = [
        event.event_type_value
        for event in events
        if event.event_type_value in ("PIPELINE_CANCELED", "PIPELINE_FAILURE")
    ]
    assert ends == ["PIPELINE_CANCELED"], "it ends once"
    page = ui(f"/runs/{at_work}")
    click(page, "Re-execute all")
    wait(60, lambda: len(runs(server)) and runs(server)[0]["runId"] not in (at_work, waiting))
    again = runs(server)[0]["runId"]
    wait(90, lambda: server.status(again) == "STARTED")
    server.graphql("mutation($run: String!) { terminateRun(runId: $run) { __typename } }", run=again)
    wait(60, lambda: server.status(again) == "CANCELED")
