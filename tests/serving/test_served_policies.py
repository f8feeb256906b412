"""A served chunk is the chunk that the policy gives in this process, whichever class and update it is of."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from documents import ROOT
from factories import commit, episode, rewrite
from policy_client import Client, asked, packed, running, unpacked
from served_policies import KINDS, write_policy

from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.recipes import find_recipe
from vlaw_assets.serving.batches import Batches, request_seed
from vlaw_assets.serving.recorder import Kind, read_messages
from vlaw_assets.serving.served import find_policy, load
from vlaw_assets.serving.session import MESSAGES, folder_of, is_served, read_session
from vlaw_models.episodes import Observation, Start
from vlaw_models.errors import VlawError
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.presets import POLICY
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.robots.observation import read_observation
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.rollouts.ask import accepted
from vlaw_models.rollouts.rollout import rollout


def in_process(served, episode, seed, *, step=0, noise_scale=1.0):
    observation = Observation(episode.images[step][None], episode.states[step][None])
    generator = torch.Generator().manual_seed(seed)
    chunk = served.policy.sample(observation, [episode.instruction], generator, noise_scale)
    return accepted(served.robot, observation.state, chunk)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_served_chunk_is_that_of_the_policy_in_process(lake, served, episodes, kind):
    policy, first = served(kind), episodes[0]
    assert first.images.shape[2:4] == policy.image_size, "nothing is resized here"
    with running(lake, policy, noise_scale=0.5) as place, Client(place.port) as client:
        for step, seed in ((0, 3), (2, 2**62)):
            answer = client.ask(asked(first, step, noise_seed=seed))
            np.testing.assert_array_equal(
                answer["actions"], in_process(policy, first, seed, step=step, noise_scale=0.5)
            )
            assert answer["noise_seed"] == seed
        assert client.metadata["policy"]["class"] == {"dsrl": "NoisePolicy", "pi0": "Pi0Policy"}.get(kind, "FlowPolicy")
    assert kind != "recap" or policy.policy.conditioned
    assert place.ended.counts.answered == 2


def test_a_request_in_the_bytes_of_openpis_client_is_answered(lake, served):
    said = json.loads((Path(__file__).parent / "openpi_client.json").read_text())
    with running(lake, served("base")) as place, Client(place.port) as client:
        answer = client.send(base64.b64decode(said["request"]))
    assert (answer["actions"].shape, answer["noise_seed"]) == ((8, 5), 7)


def test_policies_of_different_updates_answer_differently(served, episodes):
    chunks = [in_process(served(kind), episodes[0], 0) for kind in KINDS]
    assert all(np.abs(one - other).max() > 1e-4 for i, one in enumerate(chunks) for other in chunks[:i])


def test_requests_without_a_seed_get_one_that_can_be_derived_again(lake, served, episodes):
    policy = served("base")
    with running(lake, policy) as place:
        with Client(place.port) as client:
            chunks = [client.ask(asked(episodes[0])) for _ in range(2)]
        with Client(place.port) as client:
            chunks.append(client.ask(asked(episodes[0])))
    seeds = [request_seed(5, connection, number) for connection, number in ((1, 1), (1, 2), (2, 1))]
    assert [chunk["noise_seed"] for chunk in chunks] == seeds
    assert len(set(seeds)) == 3
    for chunk, seed in zip(chunks, seeds, strict=True):
        np.testing.assert_array_equal(chunk["actions"], in_process(policy, episodes[0], seed))


@pytest.mark.parametrize("kind", ["base", "dsrl", "pi0"])
def test_requests_that_wait_share_a_forward_pass_and_get_what_they_would_get_alone(served, episodes, kind):
    policy = served(kind)
    observations = [read_observation(policy.robot, asked(e), policy.image_size) for e in episodes]
    batches = Batches(policy.policy, policy.robot, noise_scale=1.0, most=4)
    try:
        answers = [batches.submit(one, seed) for seed, one in enumerate(observations)]
        found = [answer.result(20) for answer in answers]
    finally:
        batches.stop()
    assert max(answer.batch for answer in found) == 4
    for seed, (answer, first) in enumerate(zip(found, episodes, strict=True)):
        np.testing.assert_allclose(answer.actions, in_process(policy, first, seed), atol=2e-5)


class Half:
    """A policy that has no chunk for the instruction 'fail', and is wrong about all in a batch with it."""

    execute_steps = 1

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        chunk = np.repeat(observation.state[:, None], 2, axis=1)
        chunk[[text == "fail" for text in instructions]] = np.nan
        return chunk


def test_one_request_without_an_answer_does_not_take_those_of_its_batch(served, episodes):
    policy = served("base")
    one = read_observation(policy.robot, asked(episodes[0]), policy.image_size)
    batches = Batches(Half(), policy.robot, noise_scale=1.0, most=8)
    try:
        answers = [batches.submit(one._replace(prompt=text), 0) for text in ("go", "fail", "go", "go")]
        assert [answer.exception(20) is None for answer in answers] == [True, False, True, True]
        with pytest.raises(VlawError, match="not finite"):
            answers[1].result()
    finally:
        batches.stop()


def test_a_session_says_which_policy_it_was_and_the_recording_what_was_said(lake, served, episodes):
    policy = served("filtered")
    with running(lake, policy, record=True) as place:
        with Client(place.port) as client:
            answer = client.ask(asked(episodes[0]))
            said = client.metadata
        with Client(place.port) as client, pytest.raises(RuntimeError):
            client.ask({"prompt": "go"})
        assert is_served(lake, place.session.id)
    session = read_session(lake, said["session"])
    ref = lake.ledger.require("policy", "vlaw|01")
    assert (session.policy, session.policy_content_sha256) == (ref.artifact_id, ref.content_digest)
    assert said["policy"]["content_sha256"] == ref.content_digest
    assert (session.experiment, session.iteration, session.robot) == ("vlaw", 1, "tabletop")
    assert (session.counts.connections, session.counts.requests, session.counts.answered) == (2, 2, 1)
    assert session.counts.refused == 1
    assert session.ended_at >= session.started_at
    assert session.end == "stopped"
    assert set(session.latency_ms) == {"p50", "p95", "max"}
    assert not is_served(lake, session.id)
    found = list(read_messages(folder_of(lake, session.id) / MESSAGES))
    kinds = [(message.kind, message.connection) for message in found]
    assert kinds[:4] == [(Kind.OPEN, 1), (Kind.REQUEST, 1), (Kind.ANSWER, 1), (Kind.CLOSE, 1)]
    assert [kind for kind, connection in kinds if connection == 2] == [Kind.OPEN, Kind.REQUEST, Kind.ERROR, Kind.CLOSE]
    assert unpacked(found[0].body) == said
    assert found[1].body == packed(asked(episodes[0]))
    np.testing.assert_array_equal(unpacked(found[2].body)["actions"], answer["actions"])


def test_a_robot_that_follows_served_chunks_does_what_a_rollout_does(lake, served):
    """The simulated robot, asked over the wire, against the rollout of the same policy with the same noise."""
    policy, start = served("base"), Start("stack", 7)
    world = simulator_of(policy.robot, needed_by="test", remedy="").world(policy.image_size[0])

    class Remote:
        execute_steps = policy.policy.execute_steps

        def __init__(self, client):
            self.client = client

        def sample(self, observation, instructions, generator, noise_scale=1.0):
            sent = {f"observation/{name}": observation.images[0, i] for i, name in enumerate(policy.robot.camera_names)}
            seed = int(torch.randint(2**62, (), generator=generator))
            sent |= {"observation/state": observation.state[0], "prompt": "reach the red square", "noise_seed": seed}
            return self.client.ask(sent)["actions"][None]

    class Local:
        execute_steps = policy.policy.execute_steps

        def sample(self, observation, instructions, generator, noise_scale=1.0):
            seeded = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return policy.policy.sample(observation, ["reach the red square"], seeded, noise_scale)

    with running(lake, policy) as place, Client(place.port) as client:
        (remote,) = rollout(Remote(client), world, [start], num_steps=10, seed=3)
    (local,) = rollout(Local(), world, [start], num_steps=10, seed=3)
    np.testing.assert_array_equal(remote.states, local.states)
    np.testing.assert_array_equal(remote.images, local.images)


def test_a_robot_that_lives_on_recordings_is_served_wide_pictures(tmp_path):
    """DROID's, by the keys that openpi's client uses: 180x320 pictures of the cameras, pose and gripper."""
    lake, recipe = Lake.open(tmp_path / "lake"), find_recipe("droid_sample", ROOT / "vlaw_assets" / "recipes" / "droid")
    states = np.linspace(0, 0.4, 70, dtype=np.float32).reshape(10, 7)
    normalization = Normalization.fit([states], [states[1:]], chunk_size=8, absolute=(6,), wraps=(3, 4, 5))
    made = build_policy(POLICY["toy"], normalization, robot=DROID, seed=0, instructions=["pick up the cup"])
    ref = commit(lake, "base_policy", write=lambda draft: made.save(draft.checkpoint_dir()))
    policy = load(lake, recipe, ref)
    picture = np.full((180, 320, 3), 90, np.uint8)
    names = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
    sent = {f"observation/{name}": picture for name in names}
    sent |= {"observation/cartesian_position": states[3, :6].astype(float), "observation/joint_position": np.zeros(7)}
    sent |= {"observation/gripper_position": states[3, 6:].astype(float), "prompt": "pick up the cup", "noise_seed": 1}
    with running(lake, policy) as place, Client(place.port) as client:
        assert client.metadata["image_size"] == [192, 320]
        chunk = client.ask(sent)["actions"]
    wide = np.full((1, 3, 192, 320, 3), 90, np.uint8)
    generator = torch.Generator().manual_seed(1)
    alone = policy.policy.sample(Observation(wide, states[3:4]), ["pick up the cup"], generator)
    np.testing.assert_array_equal(chunk, accepted(DROID, states[3:4], alone)[0])
    steps = np.diff(np.concatenate([states[3:4], chunk]), axis=0)[:, [0, 1, 2, 6]]
    assert np.abs(steps).max() <= 0.35 + 1e-6, "the robot's limits hold"


def test_a_damaged_policy_is_not_served(tmp_path, episodes):
    lake = Lake.open(tmp_path / "lake")
    ref = commit(lake, "base_policy", write=lambda draft: write_policy("base", episodes, draft.checkpoint_dir()))
    path = lake.paths.root / ref.location / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    rewrite(path, bytes(data))
    with pytest.raises(VlawError, match="content changed"):
        load(lake, find_recipe("vlaw"), ref)


def test_a_policy_that_is_not_there_is_refused_with_what_there_is(lake):
    with pytest.raises(VlawError, match=r"policy\[vlaw\|09\] is not in the ledger") as found:
        find_policy(lake, find_recipe("vlaw"), 9)
    assert "policy[vlaw|04]" in found.value.remedy


def test_a_policy_of_quarantined_episodes_is_refused_unless_that_is_wanted(tmp_path, episodes):
    lake, recipe = Lake.open(tmp_path / "lake"), find_recipe("vlaw")
    real = commit(lake, "real_rollouts", "vlaw|01", write=lambda d: d.write_episodes([episode()], purpose="rollout"))

    def learn(draft):
        draft.read(real, role="real").episodes()
        write_policy("base", episodes, draft.checkpoint_dir())

    ref = commit(lake, "policy", "vlaw|01", {"real": real}, learn, reads=())
    assert find_policy(lake, recipe, 1) == ref
    (name,) = lake.read(real).table("episodes")["episode_id"].to_pylist()
    quarantine.add(lake, [name], why="test", by="test")
    with pytest.raises(VlawError, match="learned from 1 episodes that are in quarantine"):
        find_policy(lake, recipe, 1)
    assert find_policy(lake, recipe, 1, despite_quarantine=True) == ref


def test_a_policy_that_does_not_fit_the_pictures_is_refused_before_anybody_can_connect(lake, served):
    unfit = replace(served("base"), image_size=(48, 48))
    with pytest.raises(VlawError, match="does not take an observation"), running(lake, unfit):
        pass


@pytest.mark.slow
def test_a_hundred_clients_at_once_get_what_they_would_get_alone(lake, served, episodes):
    policy = served("base")
    with running(lake, policy) as place:

        def one(number):
            with Client(place.port, open_timeout=60) as client:
                return [client.ask(asked(episodes[number % 8], noise_seed=number))["actions"] for _ in range(3)]

        with ThreadPoolExecutor(100) as pool:
            found = list(pool.map(one, range(100)))
        for number, chunks in enumerate(found):
            alone = in_process(policy, episodes[number % 8], number)
            for chunk in chunks:
                np.testing.assert_allclose(chunk, alone, atol=2e-5)
    assert (place.ended.counts.connections, place.ended.counts.answered) == (100, 300)
