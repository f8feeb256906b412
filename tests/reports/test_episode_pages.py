"""Pages of episodes: which ones they show, what they say of each, and that nothing of the data is more than text."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex

import av
import numpy as np
import pytest
from asking import at
from factories import commit, episode
from known_lake import known

from vlaw_assets.cli.output import console
from vlaw_assets.lake import Lake
from vlaw_assets.lake.picking import pick
from vlaw_assets.lineage.impact import impact, reached_by_each
from vlaw_assets.reports.episodes import clips
from vlaw_assets.reports.episodes import page as pages
from vlaw_assets.reports.episodes.command import file_name, watch_command, watch_note
from vlaw_models.errors import VlawError
from vlaw_models.mp4 import LEAST_HEIGHT, encode_mp4, side_by_side

HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>\x1b[2J\u2028"


@pytest.fixture(scope="module")
def k(tmp_path_factory):
    found = known(Lake.open(tmp_path_factory.mktemp("watched") / "lake"))
    robot = {"robot": {"name": "tabletop", "state": {"names": ["a", "b"]}, "action": {"names": ["a", "b"]}}}
    found.make(
        "demonstrations", {}, found.episodes("h", "rollout", [episode(HOSTILE, 77, instruction=HOSTILE)]), recipe=robot
    )
    return found


@pytest.fixture
def vlaw(k, monkeypatch, tmp_path):
    return at(monkeypatch, tmp_path, {"VLAW_LAKE": str(k.lake.paths.root)})


def watched(vlaw, tmp_path, *words: str):
    """The page of `vlaw watch words` as text, and its data."""
    file = tmp_path / "page.html"
    vlaw("watch", *words, "--out", str(file), code=0)
    text = file.read_text()
    return text, json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def ids_of(data) -> list[str]:
    return [data["episodes"][tile["episodes"][0]]["id"] for tile in data["tiles"]]


def test_an_episode_by_its_id_with_all_that_belongs_to_it(vlaw, k, tmp_path):
    _, data = watched(vlaw, tmp_path, k.ids["r1"])
    shown = data["episodes"][0]
    assert ids_of(data) == [k.ids["r1"]]
    assert (shown["task"], shown["outcome"], shown["event"], shown["partition"]) == (
        "stack",
        "failure",
        "toppled",
        "vlaw 01",
    )
    beside = [data["episodes"][item["episode"]] for item in shown["beside"]]
    assert {item["id"] for item in beside} == {k.ids["d0"], k.ids["d1"]}
    imagined = next(item for item in beside if item["id"] == k.ids["d1"])
    assert imagined["score"] == {"p": 0.85, "by": "reward_scores[other|01]", "alpha": None}
    assert shown["reached"]["told"] == [
        ["training_set[vlaw|02]", "1 of its rows", True],
        ["policy[vlaw|01]", "whole", True],
        ["training_set[vlaw|01]", "2 of its rows", True],
    ]
    assert len(shown["states"]) == shown["steps"] + 1 == len(shown["actions"]) + 1
    _, data = watched(vlaw, tmp_path, k.ids["d0"])
    assert data["episodes"][0]["beside"][0]["how"] == "the real episode that it starts from"


def test_the_clip_is_the_episode_at_its_own_speed(vlaw, k, tmp_path):
    text, data = watched(vlaw, tmp_path, k.ids["r0"])
    clips = json.loads(re.search(r'id="clips">(.*?)</script>', text)[1])
    assert len(clips) == 1 + len(data["episodes"][0]["beside"])
    with av.open(io.BytesIO(base64.b64decode(clips[0].partition(",")[2]))) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == data["episodes"][0]["hz"]
        assert sum(1 for _ in file.decode(stream)) == data["episodes"][0]["steps"] + 1


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["policy", "vlaw", "1"], ["e0", "e1", "e2", "e3"]),
        (["policy[vlaw|01]"], ["e0", "e1", "e2", "e3"]),
        (["base_policy"], ["s0", "s1", "s2", "s3"]),
        (["training_set", "vlaw", "2"], ["r0", "q0", "q1", "d0"]),
        (["reward_model", "other", "1"], ["d0", "d1", "d2", "d3", "d4"]),
        (
            [
                "select episode_id from episodes where task = $task and purpose = 'rollout' order by seed desc",
                "-p",
                "task=book",
            ],
            ["q2", "r5", "r4", "r3"],
        ),
        (["select episode_id, task from episodes where event = 'toppled' and purpose = 'rollout'"], ["r1"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_which_episodes_are_meant(vlaw, k, tmp_path, words, names):
    _, data = watched(vlaw, tmp_path, *words)
    assert sorted(ids_of(data)) == sorted(k.ids[name] for name in names)
    if words[0].startswith("select"):
        assert ids_of(data) == [k.ids[name] for name in names], "in the order of the statement"


def test_what_is_left_out_is_said(vlaw, k, tmp_path):
    _, data = watched(vlaw, tmp_path, "real_rollouts", "vlaw", "1", "--limit", "4")
    assert len(data["tiles"]) == 4
    assert data["cut"] == "4 of 6 episodes are shown; --limit 6 shows all."
    assert "chance" in data["about"] or "random" in data["about"]
    assert watched(vlaw, tmp_path, "real_rollouts", "vlaw", "1")[1]["cut"] == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing-of-this-name"], "neither an episode nor an artifact"),
        (["nothing", "at-all"], "no artifact holds an episode"),
        (["policy", "vlaw", "9"], "vlaw"),
        (["world_model", "vlaw", "1"], "no episodes to watch"),
        (["select task from episodes"], "no column of texts episode_id, but task"),
        (["select 1 as episode_id"], "no column of texts episode_id"),
        (["select episode_id from episodes where false"], "finds no episode"),
        (["select null::varchar as episode_id"], "finds no episode"),
        (["select 'gone' as episode_id"], "no artifact holds an episode 'gone'"),
        (["copy (select episode_id from episodes) to 'x.csv'"], "SELECT"),
        (["select episode_id from read_csv('/etc/passwd')"], "read_csv"),
        (["with w as (copy (select 1) to 'x') select episode_id from episodes"], ""),
        (["select episode_id from episodes", "--limit", "0"], "a page of 0 episodes"),
        (["base_policy", "-p", "a=b"], "--param belongs to SQL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_in_words(vlaw, tmp_path, words, says):
    file = tmp_path / "page.html"
    result = vlaw("watch", *words, "--out", str(file), code=2)
    assert says in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_texts_of_data_are_never_html(vlaw, k, tmp_path):
    text, data = watched(vlaw, tmp_path, k.ids["h0"])
    assert data["episodes"][0]["instruction"] == HOSTILE, "as it is"
    assert text.lower().count("<script") == text.lower().count("</script") == 3, "no element but the page's own"
    assert "onerror" not in re.sub(r'id="data">.*?</script>', "", text)
    assert pages.in_script("</script><!--&") == '"\\u003c/script\\u003e\\u003c!--\\u0026"'
    assert "sha256-" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), "nothing is loaded from elsewhere"


def test_a_large_page_is_a_folder_with_its_clips(vlaw, k, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MOST_INLINE", 1000)
    file = tmp_path / "page.html"
    file.write_text("an older page")
    said = vlaw("watch", "real_rollouts", "vlaw", "1", "--out", str(file), code=0).stdout
    assert "page/index.html" in said
    text = (tmp_path / "page" / "index.html").read_text()
    names = json.loads(re.search(r'id="clips">(.*?)</script>', text)[1])
    assert names
    assert all((tmp_path / "page" / name).read_bytes()[4:8] == b"ftyp" for name in names)
    assert not file.exists()


def test_numbers_are_called_what_the_robot_calls_them(vlaw, k, tmp_path):
    _, data = watched(vlaw, tmp_path, k.ids["h0"])
    assert data["numbers"][data["episodes"][0]["numbers"]]["state"] == [["a", ""], ["b", ""]], "as the recipe has them"
    _, data = watched(vlaw, tmp_path, k.ids["r0"])
    assert data["numbers"][data["episodes"][0]["numbers"]]["action"] == [["number 0", ""], ["number 1", ""]]


def test_single_episodes_are_what_a_handle_reads(k):
    ref = k.refs["real_rollouts 1"]
    ids = [k.ids["r4"], k.ids["r1"]]
    found = pick(k.lake, [(ref.artifact_id, name) for name in ids])
    assert [key[1] for key in found] == ids
    for read in k.lake.read(ref).episodes(episode_ids=ids):
        picked = found[ref.artifact_id, read.episode_id].episode
        for name in ("images", "states", "actions"):
            np.testing.assert_array_equal(getattr(picked, name), getattr(read, name))
        assert (picked.event, picked.control_hz, picked.cameras) == (read.event, read.control_hz, read.cameras)
    with pytest.raises(VlawError, match="no episode"):
        pick(k.lake, [(ref.artifact_id, k.ids["q0"])])


def test_episodes_without_frames_and_damaged_ones(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake")
    blind = episode(
        steps=3,
        images=np.zeros((0, 1, 2, 2, 3), np.uint8),
        states=np.zeros((4, 2), np.float32),
        actions=np.zeros((3, 2), np.float32),
    )
    ids: list[str] = []
    commit(lake, "blind", write=lambda draft: ids.extend(draft.write_episodes([blind], purpose="rollout")))
    seen = commit(
        lake, "seen", write=lambda draft: ids.extend(draft.write_episodes([episode(noise=1)], purpose="rollout"))
    )
    vlaw = at(monkeypatch, tmp_path, {"VLAW_LAKE": str(lake.paths.root)})
    _, data = watched(vlaw, tmp_path, ids[0])
    assert data["episodes"][0]["clip"] is None
    assert "No frames" in data["episodes"][0]["picture"]
    (file,) = seen.versions["frames"]["files"]
    path = lake.paths.root / file["path"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = vlaw("watch", ids[1], code=2).stderr
    assert "content changed" in said


def test_a_clip_has_every_camera_and_small_frames_are_enlarged():
    images = np.zeros((4, 2, 3, 5, 3), np.uint8)
    images[:, 1] = 200
    frames = side_by_side(images)
    assert frames.shape == (4, 3, 10, 3)
    assert (frames[:, :, :5] == 0).all()
    assert (frames[:, :, 5:] == 200).all()
    data = encode_mp4(frames, 5.0)
    assert data == encode_mp4(frames, 5.0)
    with av.open(io.BytesIO(data)) as file:
        decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(decoded) == 4
    assert decoded[0].shape[0] >= LEAST_HEIGHT
    width = decoded[0].shape[1]
    assert decoded[0][:, : width // 2 - 2].mean() < 10
    assert decoded[0][:, width // 2 + 2 :].mean() == pytest.approx(200, abs=6)
    large = np.zeros((2, 480, 641, 3), np.uint8)
    with av.open(io.BytesIO(encode_mp4(large, 15.0))) as file:
        assert next(file.decode(video=0)).to_ndarray(format="rgb24").shape == (240, 320, 3)
    for wrong in (frames[:0], frames.astype(np.float32), frames[..., :1]):
        with pytest.raises(VlawError, match="a clip of"):
            encode_mp4(wrong, 5.0)
    with pytest.raises(VlawError, match="a clip of"):
        encode_mp4(frames, 0.0)


def test_two_policies_on_the_same_starts(vlaw, k, tmp_path):
    file = tmp_path / "pairs.html"
    said = vlaw("compare", "policy", "base_policy", "vlaw/01", "--out", str(file), code=0).stdout
    data = json.loads(re.search(r'id="data">(.*?)</script>', file.read_text())[1])
    groups = [["both won", 1], ["only base_policy won", 1], ["only vlaw/01 won", 2], ["both lost", 0]]
    assert [group[:2] for group in data["summary"]["groups"]] == groups
    pairs = [([data["episodes"][place]["id"] for place in tile["episodes"]], tile["group"]) for tile in data["tiles"]]
    assert pairs == [
        ([k.ids["s1"], k.ids["e1"]], "only base_policy won"),
        ([k.ids["s0"], k.ids["e0"]], "only vlaw/01 won"),
        ([k.ids["s2"], k.ids["e2"]], "only vlaw/01 won"),
        ([k.ids["s3"], k.ids["e3"]], "both won"),
    ]
    assert data["summary"]["table"][1:] == [["stack", "0", "1", "2", "0"], ["book", "1", "0", "0", "0"]]
    assert "+0.250" in said
    assert "vlaw/01 is not shown to differ" in said
    assert str(file) in said
    vlaw("compare", "policy", "base_policy", "vlaw/01", "--limit", "3", "--out", str(file), code=0)
    data = json.loads(re.search(r'id="data">(.*?)</script>', file.read_text())[1])
    assert sorted(tile["group"] for tile in data["tiles"]) == ["both won", "only base_policy won", "only vlaw/01 won"]
    assert data["cut"].startswith("3 of 4 pairs")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["policy", "vlaw/01", "vlaw/01"], "the same policy"),
        (["world_model", "vlaw/01", "vlaw/02"], "world_model is not compared"),
        (["policy", "vlaw/01", "nobody"], "there is no policy 'nobody'"),
        (["policy", "vlaw/01", "base_policy", "--limit", "0"], "a page of 0 pairs"),
    ],
)
def test_what_cannot_be_compared_is_said(vlaw, tmp_path, words, says):
    said = vlaw("compare", *words, "--out", str(tmp_path / "pairs.html"), code=2).stderr
    assert says in " ".join(said.split())
    assert list(tmp_path.iterdir()) == []


def test_other_pages_name_the_command_and_link_a_page_that_is_there(vlaw, k, tmp_path):
    command = {name: watch_command(ref) for name, ref in k.refs.items()}
    assert command["policy 1"] == "vlaw watch policy vlaw 01"
    assert command["base_policy"] == "vlaw watch base_policy"
    assert command["training_set 2"] == "vlaw watch training_set vlaw 02"
    rollouts = k.refs["real_rollouts 1"]
    assert watch_note(rollouts, tmp_path) == (
        '<p class="note">Watch them with <code>vlaw watch real_rollouts vlaw 01</code></p>'
    )
    assert watch_note(k.refs["world_model_metrics 1"], tmp_path) == ""
    vlaw("watch", "real_rollouts", "vlaw", "01", code=0)
    assert f'href="{file_name(rollouts.name)}"' in watch_note(rollouts, tmp_path / "runs")


def test_sql_that_finds_episodes_says_how_they_are_watched(vlaw, k, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "_force_terminal", True)
    query = "select episode_id from episodes where event = $event"
    said = vlaw("sql", query, "-p", "event=toppled", code=0).stdout
    words = shlex.split(said.partition("watch them: vlaw ")[2])
    assert words == ["watch", query, "-p", "event=toppled"]
    vlaw(*words, code=0)
    assert "watch them" not in vlaw("sql", "select task from episodes", code=0).stdout
    _, data = watched(vlaw, tmp_path, "near_misses", "-p", "alpha=0.8")
    assert set(ids_of(data)) <= set(k.ids.values()), "a question of sql/ is asked by its name"
    assert data["title"].startswith("Which ")
    assert data["command"] == "vlaw watch near_misses -p alpha=0.8"


def test_recorded_trials_are_those_of_the_policy_that_they_name(vlaw, k, tmp_path):
    k.make("policy 9", {}, checkpoint="nine", partition="other|01")
    digest = k.refs["policy 9"].content_digest
    trial = episode("stack", 91, cameras=("exterior_1", "exterior_2", "wrist"), dims=(5, 5))
    write = k.episodes("t", "evaluation", [trial], policy=digest)
    k.make("policy_evaluation 9", {}, write, partition="other|01", kind="evaluation")
    _, data = watched(vlaw, tmp_path, "policy", "other", "01")
    assert ids_of(data) == [k.ids["t0"]]
    named = data["numbers"][data["episodes"][0]["numbers"]]
    assert named["state"][0] == ["x", "m"], "of the robot whose world it is"
    assert named["action"][3:] == [["pitch", "rad"], ["gripper", ""]]


def test_what_each_episode_reached_is_what_impact_says_of_it(k):
    owners = [ref for ref in k.refs.values() if not ref.source_artifact_id]
    keys = [
        (ref.artifact_id, name)
        for ref in owners
        for name in k.lake.read(ref).table("episodes")["episode_id"].to_pylist()
    ]
    assert len(keys) > 20
    found = reached_by_each(k.lake, keys)
    assert {key: found[key] for key in keys} == {key: impact(k.lake, key[1]) for key in keys}
    assert reached_by_each(k.lake, []) == {}


def test_clips_are_the_same_however_few_frames_are_in_memory(k, monkeypatch):
    ref = k.refs["real_rollouts 1"]
    picked = pick(k.lake, [(ref.artifact_id, k.ids[f"r{i}"]) for i in range(4)], images=False)
    together = clips.clips_of(k.lake, picked, redraw=False)
    assert [clip.frames for clip in together.values()] == [11, 11, 11, 21]
    monkeypatch.setattr(clips, "MOST_BYTES", 1)
    assert clips.clips_of(k.lake, picked, redraw=False) == together
