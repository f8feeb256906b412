"""Ray on this machine, Slurm where it runs, Kubernetes as a false API server: the same digests, and errors that say so.

Skipped where an engine's package is not installed (`pip install 'vlaw[ray,slurm,kubernetes]'`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from engine_lab import LIGHT, PARTITION, Lab
from false_kubernetes import FalseCluster

from vlaw_assets.engines.elsewhere import Call
from vlaw_assets.engines.settings import ENGINES, read_settings
from vlaw_models.errors import VlawError

PARTS = 6


def same(made, here):
    return (made.identity_digest, made.content_digest) == (here.identity_digest, here.content_digest)


def both(lab, engine, **values):
    """What a light worker and one that imagines make by this engine, and what is made here."""
    here = Lab(lab.root / "here")
    lab.by(engine, python=lab.python(LIGHT.replace("{0}", "")), workers=2, **values)
    assert same(lab.make_light(PARTS), here.make_light(PARTS))
    lab.by(engine, python=sys.executable, workers=2, **values)
    assert same(lab.make("imagined_rollouts"), here.make("imagined_rollouts"))


def fails(lab, engine, script, said, **values):
    """A worker that does this is one error; nothing is seen."""
    lab.by(engine, python=lab.python(script), **values)
    with pytest.raises(VlawError, match=said):
        lab.make_light(PARTS, again=9)
    current = lab.lake.ledger.current("imagined_rollouts", PARTITION)
    assert current is None or '"again":9' not in current.recipe_json


# ---- Ray


@pytest.fixture(scope="module")
def ray_address():
    pytest.importorskip("dagster_ray")
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    port = "8299"
    started = subprocess.run(
        [*ray, "start", "--head", "--num-cpus=2", "--port=6399", f"--dashboard-port={port}", "--include-dashboard=true",
         "--disable-usage-stats", "--object-store-memory=100000000"],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert started.returncode == 0, started.stdout + started.stderr
    yield f"http://127.0.0.1:{port}"
    subprocess.run([*ray, "stop", "--force"], capture_output=True, timeout=300, check=False)


@pytest.mark.slow
def test_ray_makes_the_same(lab, ray_address):
    both(lab, "ray", ray={"address": ray_address})
    fails(lab, "ray", "exit 3", "a worker died", ray={"address": ray_address})


def test_ray_that_is_not_there_is_one_error(light, monkeypatch):
    pytest.importorskip("dagster_ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address, said in (("", "not that of a dashboard"), ("http://127.0.0.1:9", "cannot be reached")):
        light.by("ray", ray={"address": address})
        with pytest.raises(VlawError, match=said):
            light.make_light(PARTS)


# ---- Slurm


@pytest.mark.slow
def test_slurm_makes_the_same(lab):
    pytest.importorskip("submitit")
    try:
        answers = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=60, check=False).returncode == 0
    except FileNotFoundError:
        answers = False
    if not answers:
        pytest.skip("no Slurm answers here")
    both(lab, "slurm")
    fails(lab, "slurm", "exit 3", "a worker died")
    fails(lab, "slurm", "exec scancel $SLURM_JOB_ID", "a worker (died|ended without part 0)")


# ---- Kubernetes


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("dagster_k8s")
    with FalseCluster(tmp_path) as cluster:
        yield cluster


def options(cluster, tmp_path, **more):
    return {
        "image": "vlaw:1",
        "claim": "lake",
        "mount": str(tmp_path),
        "namespace": "lab",
        "kubeconfig": str(cluster.kubeconfig),
        "poll_s": 0.2,
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"},
        **more,
    }


def test_the_manifest_of_a_pod_is_valid(cluster, lab, tmp_path):
    import kubernetes
    from dagster_k8s.pipes import build_pod_body

    more = {"node_selector": {"pool": "gpu"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    lab.by("kubernetes", kubernetes=options(cluster, tmp_path, pod=more))
    settings = read_settings(lab.engine)
    engine = ENGINES.load("kubernetes", where="here")(settings)
    given = engine.pod(Call(Path("staging-1"), [0]))
    body = build_pod_body(
        pod_name="worker-1",
        image=given["image"],
        command=given["command"],
        env_vars={},
        base_pod_meta=given["base_pod_meta"],
        base_pod_spec=given["base_pod_spec"],
    )  # raises for what is no PodSpec
    pod = kubernetes.client.ApiClient().sanitize_for_serialization(body)
    assert pod["metadata"]["labels"]["vlaw-worker"] == "staging-1"
    spec = pod["spec"]
    assert (spec["restartPolicy"], spec["nodeSelector"]) == ("Never", {"pool": "gpu"})
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert spec["volumes"] == [{"name": "lake", "persistentVolumeClaim": {"claimName": "lake"}}]
    (container,) = spec["containers"]
    assert container["image"] == "vlaw:1"
    assert container["command"] == ["python3", "-m", "vlaw_assets.engines.worker"]
    assert container["volumeMounts"] == [{"name": "lake", "mountPath": str(tmp_path)}]
    assert container["resources"] == {"limits": {"memory": "8Gi", "nvidia.com/gpu": "1"}}


@pytest.mark.slow
def test_pods_make_the_same(lab, cluster, tmp_path):
    both(lab, "kubernetes", kubernetes=options(cluster, tmp_path))
    assert len(cluster.created) == 4
    assert not cluster.pods, "none is left"


def test_a_pod_that_dies_or_hangs_is_one_error_and_none_is_left(light, cluster, tmp_path):
    given = {"kubernetes": options(cluster, tmp_path)}
    fails(light, "kubernetes", "exit 3", "a worker died", **given)
    folders = f"{light.root}/lake/training/*/parts-*/staging-*"
    hangs = f'for folder in {folders}; do touch "$folder/begun"; done; exec sleep 600'
    fails(light, "kubernetes", hangs, "has hung", limit_s=1.0, **given)
    assert not cluster.pods, "none is left"


def test_a_cluster_that_is_not_there_is_one_error(light, cluster, tmp_path):
    cluster.close()
    light.by("kubernetes", kubernetes=options(cluster, tmp_path))
    with pytest.raises(VlawError, match="cannot be reached"):
        light.make_light(PARTS)
    light.by("kubernetes", kubernetes={"image": "i", "claims": "x"})
    with pytest.raises(VlawError, match="does not fit"):
        light.make_light(PARTS)
