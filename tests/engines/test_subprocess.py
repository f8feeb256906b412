"""What workers make is what this process makes, and nothing of a worker that fails is seen."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from engine_lab import LIGHT, PARTITION, Lab
from light_parts import TASKS

from vlaw_assets.engines import files, forked
from vlaw_assets.engines.forked import Forked
from vlaw_assets.engines.settings import ENGINES, read_settings
from vlaw_assets.engines.subprocess import VISIBLE, gpu_of
from vlaw_assets.pipeline import code_identity
from vlaw_models.errors import VlawError
from vlaw_models.threads import MOST, cores

PARTS, KILLS = 12, 50


@pytest.fixture(scope="module")
def made_here(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("here"))
    return {asset: lab.make(asset) for asset in ("imagined_rollouts", "reward_scores")}


def nothing_is_seen(lab):
    return lab.lake.ledger.current("imagined_rollouts", PARTITION) is None


def equal(made, other):
    return (made.identity_digest, made.content_digest) == (other.identity_digest, other.content_digest)


def test_parts_that_travel_give_what_they_give_here(lab, made_here):
    lab.by("threads", workers=3)
    for asset, here in made_here.items():
        made = lab.make(asset)
        assert equal(made, here)
        assert made.metrics["engine"] == {"engine": "threads", "kinds_of_workers": 1}
    assert not any(lab.lake.paths.training.iterdir()), "parts go with the commit"


def test_a_file_that_says_in_process_starts_no_worker(light):
    """As a run of Dagster's pages has it: nobody looked at the file before."""
    made = light.by("in_process").make_light(3)
    assert made.num_rows == 3 * len(TASKS)
    assert "engine" not in made.metrics


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "workers"), [("subprocess", 1), ("subprocess", 2), ("forked", 2)])
def test_processes_make_what_this_process_makes(lab, made_here, engine, workers):
    lab.by(engine, workers=workers)
    for asset, here in made_here.items():
        made = lab.make(asset)
        assert equal(made, here)
        assert made.metrics["made_with"] == here.metrics["made_with"]


@pytest.mark.parametrize(
    ("script", "values", "said"),
    [
        ("kill -9 $$", {}, "a worker died: SIGKILL"),
        ("echo no torch here; exit 7", {}, "(?s)a worker died: exit status 7.*no torch here"),
        ("exit 0", {}, "ended without part 0"),
        ("exec sleep 600", {"limit_s": 0.3}, "has hung"),
        ("kill -STOP $$", {"limit_s": 0.3}, "has hung"),
    ],
)
def test_a_worker_that_fails_is_one_error_and_nothing_is_seen(light, script, values, said):
    light.by("subprocess", python=light.python(script), **values)
    with pytest.raises(VlawError, match=said):
        light.make_light(PARTS)
    assert nothing_is_seen(light)
    light.engine = ""
    assert light.make_light(PARTS).num_rows == PARTS * len(TASKS), "materialized again it finishes"


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("VLAW_DEVICE", "auto")


@pytest.mark.slow
def test_each_worker_sees_a_gpu_of_its_own_in_turn(light, two_gpus, monkeypatch):
    monkeypatch.setenv(VISIBLE, "7,5")
    seen = light.root / "seen"
    light.by("subprocess", workers=3, python=light.python(f"echo ${VISIBLE} >> {seen}; " + LIGHT.replace("{0}", "")))
    made = light.make_light(3)
    assert sorted(seen.read_text().split()) == ["5", "7", "7"]
    assert equal(Lab(light.root / "other", models=False).make_light(3), made)


def test_a_gpu_is_one_of_those_seen_here_and_none_is_chosen_where_a_device_is_named(two_gpus, monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)
    assert [gpu_of(worker) for worker in range(3)] == [{VISIBLE: one} for one in "010"]
    monkeypatch.setenv(VISIBLE, "GPU-a, GPU-b,-1,GPU-c")  # torch counts those before the -1
    assert [gpu_of(worker) for worker in range(3)] == [{VISIBLE: f"GPU-{one}"} for one in "aba"]
    assert gpu_of(None) == {}, "a training may have all"
    for device in ("cuda:1", "cpu"):
        monkeypatch.setenv("VLAW_DEVICE", device)
        assert gpu_of(1) == {}
    monkeypatch.setenv("VLAW_DEVICE", "")
    assert gpu_of(1) == {VISIBLE: "GPU-b"}
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert gpu_of(1) == {}


def test_the_first_worker_sees_the_first_gpu_alone(light, two_gpus, monkeypatch):
    monkeypatch.setenv(VISIBLE, "7,5")
    light.by("subprocess", python=light.python(f"echo GPUs: ${VISIBLE}; exit 7"))
    with pytest.raises(VlawError, match=r"(?s)exit status 7.*GPUs: 7\b(?!,)"):
        light.make_light(1)


def test_a_fork_that_is_killed_is_one_error(light, monkeypatch):
    begin = Forked.start

    def and_kill(*given):
        process = begin(*given)
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(Forked, "start", and_kill)
    monkeypatch.setattr(forked, "imported", list)  # all models take seconds, and it does not live to load one
    light.by("forked")
    with pytest.raises(VlawError, match="a worker died: SIGKILL"):
        light.make_light(PARTS)
    assert nothing_is_seen(light)


def test_without_a_file_forks_have_a_core_each():
    found = read_settings("forked")
    assert (found.workers, found.threads) == (min(MOST, cores()), 1)
    with pytest.raises(VlawError, match="no Python of its own"):
        ENGINES.load("forked", where="here")(replace(found, python="python3"))


def test_an_engine_that_is_not_there_is_one_error(light):
    light.by("subprocess", python="nowhere/python")
    with pytest.raises(VlawError, match="'nowhere/python' is not there"):
        light.make_light(PARTS)
    for engine, options in (("ray", {}), ("slurm", {}), ("kubernetes", {"image": "i", "claim": "c", "mount": "/m"})):
        light.by(engine, **{engine: options})
        with pytest.raises(VlawError, match=f"engine '{engine}' is not installed|address|sbatch|cannot be reached"):
            light.make_light(PARTS)
    assert nothing_is_seen(light)
    light.by("subprocess", subprocess={"nodes": 3})
    with pytest.raises(VlawError, match="no key 'nodes'"):
        light.make_light(PARTS)


OTHER_HASH = """put = files.put
files.put = lambda path, value: {**put(path, value), **({'sha256': '0' * 64} if path.name[:4] == '0003' else {})}"""


def test_a_file_whose_hash_differs_is_one_error_and_is_made_again(light):
    light.by("subprocess", python=light.python(LIGHT.replace("{0}", OTHER_HASH)))
    with pytest.raises(VlawError, match="sha256"):
        light.make_light(PARTS)
    assert nothing_is_seen(light)
    kept = sorted(path.stem for path in light.lake.paths.training.glob("*/parts-*/done/*.json"))
    assert kept[:3] == ["0000", "0001", "0002"]
    assert "0003" not in kept
    light.by("subprocess", python=light.python(LIGHT.replace("{0}", "")))
    made = light.make_light(PARTS)
    assert equal(Lab(light.root / "other", models=False).make_light(PARTS), made)


@pytest.mark.slow
def test_what_is_kept_of_an_interrupted_run_is_used_only_where_it_is_whole(light):
    light.by("subprocess", python=light.python(LIGHT.replace("{0}", OTHER_HASH)))
    with pytest.raises(VlawError, match="sha256"):
        light.make_light(PARTS)
    (folder,) = light.lake.paths.training.glob("*/parts-*")
    for name, data in (("0000.safetensors", b"torn"), ("0001.json", b"{")):
        (folder / "done" / name).write_bytes(data)
    (folder / "staging-of-a-dead-run").mkdir()
    light.by("subprocess", python=light.python(LIGHT.replace("{0}", "")))
    assert equal(Lab(light.root / "other", models=False).make_light(PARTS), light.make_light(PARTS))


def test_inputs_and_code_other_than_were_pinned_are_refused(lab, monkeypatch):
    lab.by("threads")
    pinned = files.listing
    monkeypatch.setattr(files, "listing", lambda folder: {**pinned(folder), "config.json": str(time.monotonic())})
    with pytest.raises(VlawError, match=r"is not what was pinned: config.json differs"):
        lab.make("imagined_rollouts")
    monkeypatch.undo()
    digests = iter("abcdefgh")
    monkeypatch.setattr(code_identity, "code_digest", lambda *_: next(digests))
    with pytest.raises(VlawError, match=r"a worker has other code of vlaw_models.rollouts.imagine: b instead of a"):
        lab.make("imagined_rollouts")
    monkeypatch.undo()
    with pytest.raises(VlawError, match="is no heavy part"):
        lab.make_light(PARTS)
    assert nothing_is_seen(lab)


@contextlib.contextmanager
def killing(after_s=None):
    """Kills the first worker that this process starts in the block, so long after it began. Without `after_s` it only
    looks on. Gives a list, which has the seconds that the process has lived then."""
    lived, over = [], threading.Event()

    def watch():
        while not over.wait(0.002):
            for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    for pid in map(int, path.read_text().split()):
                        started = Path(f"/proc/{pid}/cmdline").read_bytes()
                        if b"vlaw_assets.engines" not in started or b"forkserver" in started:
                            continue
                        begun = time.monotonic()
                        if after_s is None:
                            while Path(f"/proc/{pid}").exists():
                                time.sleep(0.002)
                        else:
                            over.wait(after_s)
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(pid, signal.SIGKILL)
                        lived.append(time.monotonic() - begun)
                        return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield lived
    finally:
        over.set()
        watching.join()


@pytest.mark.slow
def test_fifty_killed_workers_leave_nothing_half_seen(light):
    parts, kills, again, rng = 8, 0, 0, random.Random(0)
    light.by("subprocess", python=light.python(LIGHT.replace("{0}", "")))
    with killing() as lived:
        whole = light.make_light(parts)
    went_on = 0
    while kills < KILLS:
        again += 1
        made = None
        while made is None:
            with killing(rng.uniform(0, lived[0]) if kills < KILLS else None):
                try:
                    made = light.make_light(parts, again)
                except VlawError as error:
                    assert "SIGKILL" in str(error), error  # noqa: PT017
                    kills += 1
                    current = light.lake.ledger.current("imagined_rollouts", PARTITION)
                    assert current.recipe_json == whole.recipe_json.replace('"again":0', f'"again":{again - 1}')
                    went_on += any(light.lake.paths.training.glob("*/parts-*/done/*.json"))
        assert made.content_digest == whole.content_digest
        assert not any(light.lake.paths.training.iterdir())
    assert went_on, "some were killed when parts were finished"
