"""What is sent and taken: the bytes of openpi's own client, and nothing that could do harm."""

from __future__ import annotations

import base64
import json
import pickle
import tracemalloc
from pathlib import Path

import msgpack
import numpy as np
import pytest

from vlaw_assets.serving.limits import Door
from vlaw_models import wire
from vlaw_models.errors import VlawError
from vlaw_models.robots.observation import read_observation
from vlaw_models.robots.tabletop.spec import SPEC

SAID = json.loads((Path(__file__).parent / "openpi_client.json").read_text())
"""What openpi-client, unchanged, sent to a socket, and how it packs what a server sends."""
BYTES = {name: base64.b64decode(SAID[name]) for name in ("request", "answer", "metadata")}


def picture(first: int) -> np.ndarray:
    return (np.arange(16 * 16 * 3) + first).astype(np.uint8).reshape(16, 16, 3)


REQUEST = {
    "observation/exterior_image_1_left": picture(0),
    "observation/exterior_image_2_left": picture(1),
    "observation/wrist_image_left": picture(2),
    "observation/cartesian_position": np.array([0.05, -0.025, 0.125, 0.25]),
    "observation/joint_position": np.zeros(7, np.float32),
    "observation/gripper_position": np.float32(0.5),
    "prompt": "reach the red square",
    "noise_seed": 7,
}
ANSWER = {
    "actions": (np.arange(10, dtype=np.float32) / 8).reshape(2, 5),
    "server_timing": {"infer_ms": 1.5, "batch": 1},
    "policy_timing": {"infer_ms": 0.5},
    "noise_seed": 2**63 - 1,
}


def test_a_request_of_openpis_client_is_read():
    found = wire.unpack(BYTES["request"])
    assert found.keys() == REQUEST.keys()
    for key, value in REQUEST.items():
        np.testing.assert_array_equal(found[key], value)
        assert np.asarray(found[key]).dtype == np.asarray(value).dtype, key
    asked = read_observation(SPEC, found, (16, 16))
    np.testing.assert_array_equal(asked.images, [picture(0), picture(1), picture(2)])
    np.testing.assert_array_equal(asked.state, np.float32([0.05, -0.025, 0.125, 0.25, 0.5]))
    assert (asked.prompt, asked.seed) == ("reach the red square", 7)


def test_the_server_lets_openpis_client_in_by_its_own_handshake():
    (given,) = [line.partition(": ")[2] for line in SAID["handshake"] if line.startswith("Authorization: ")]
    assert Door("0123456789abcdef").opens_to(given)
    assert not Door("0123456789abcdee").opens_to(given)
    assert not any(line.startswith(("Origin:", "Sec-WebSocket-Extensions:")) for line in SAID["handshake"])


def test_answers_and_metadata_are_the_bytes_that_openpi_makes_of_them():
    assert wire.pack(ANSWER) == BYTES["answer"]
    metadata = {"server": "vlaw", "image_size": [64, 64], "robot": "tabletop", "recorded": False}
    assert wire.pack(metadata) == BYTES["metadata"]
    assert wire.pack(REQUEST) == BYTES["request"]


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array([1j]), np.zeros(2, [("a", "<f4")]), {1, 2}, Path("/"), np.complex64(1)]
)
def test_what_openpi_does_not_pack_is_not_packed(value):
    with pytest.raises(TypeError):
        wire.pack({"value": value})


def array(**changes):
    made = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb({"x": {**made, **{key.encode(): value for key, value in changes.items()}}})


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "cannot be read"),
        (b"\xc1", "cannot be read"),
        (BYTES["request"][:-3], "cannot be read"),
        (BYTES["request"] + b"\x00", "cannot be read"),
        (pickle.dumps({"prompt": "go"}), "cannot be read"),
        (msgpack.packb([1, 2]), "no dictionary"),
        (msgpack.packb({b"prompt": "go"}), "no dictionary"),
        (msgpack.packb({1: "go"}), "cannot be read"),
        (msgpack.packb({"x": msgpack.ExtType(42, b"y")}), "extension"),
        (b"\x82\xa1x\x01\xa1x\x02", "came twice"),
        (b"\x81\xa1x\xa2\xff\xfe", "cannot be read"),
        (array(dtype="|O"), "type"),
        (array(dtype="O8"), "type"),
        (array(dtype="|V8"), "type"),
        (array(dtype="<U2"), "type"),
        (array(dtype="<c8"), "type"),
        (array(dtype="<M8[ns]"), "type"),
        (array(dtype=[["a", "<f4"]]), "type"),
        (array(dtype=None), "type"),
        (array(dtype="<f4,(1000000,1000000)f4"), "type"),
        (array(shape=[3]), "8 bytes"),
        (array(shape=[-2]), "without a shape"),
        (array(shape=[2**40, 2**40]), "without a shape"),
        (array(shape=[True, 2]), "without a shape"),
        (array(shape=2), "without a shape"),
        (array(shape=[1] * 70), "without a shape"),
        (array(shape=None), "without a shape"),
        (array(data="text"), "without a shape"),
        (array(data=None), "without a shape"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"data": 1, b"dtype": "|O"}}), "type"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"data": [1, 2], b"dtype": "<f4"}}), "number that is none"),
        (msgpack.packb({"x": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}), "cannot be"),
    ],
)
def test_a_message_that_is_none_is_refused(data, what):
    with pytest.raises(VlawError, match=what):
        wire.unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 1_000_000,  # lists in lists
        b"\x81\xa1x\xdd\x00\x0f\x42\x40" + b"\x90" * 1_000_000,  # a million empty lists
        b"\x81\xa1x\xdc\x03\xff" + (b"\xdc\x03\xff" + b"\x90" * 1023) * 1023,
        b"\x81\xa1x\xdf\xff\xff\xff\xff",  # a map that says it is large
        b"\x81\xa1x\xdd\xff\xff\xff\xff",
        b"\x81\xa1x\xc6\xff\xff\xff\xff",
    ],
)
def test_a_small_message_does_not_become_a_large_one(data):
    tracemalloc.start()
    try:
        with pytest.raises(VlawError, match="cannot be read"):
            wire.unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_request_with_changed_bytes_is_read_or_refused_and_nothing_else():
    """Whatever a broken sender makes of a request: flipped, cut, doubled and swapped pieces."""
    rng = np.random.default_rng(0)
    # The bytes between arrays decide how the message is read; pictures are most of it, and decide nothing.
    short = wire.pack({**REQUEST, **{key: np.zeros(1, np.uint8) for key in list(REQUEST)[:3]}})
    refused = 0
    for number in range(3000):
        data = bytearray(short)
        for _ in range(rng.integers(1, 4)):
            one, other = sorted(int(place) for place in rng.integers(0, len(data), 2))
            change = number % 4
            if change == 0:
                data[one] = int(rng.integers(256))
            elif change == 1:
                del data[one : one + 1 + (other - one) % 9]
            elif change == 2:
                data[other:other] = data[one : one + 1 + (other - one) % 40]
            else:
                data[one : one + 4], data[other : other + 4] = data[other : other + 4], data[one : one + 4]
        try:
            read_observation(SPEC, wire.unpack(bytes(data)), (16, 16))
        except VlawError:
            refused += 1
    assert refused == 3000, "its pictures are no pictures"


def test_arrays_of_the_other_byte_order_are_turned():
    found = wire.unpack(wire.pack({"x": np.array([1.5, 2.5], ">f8")}))["x"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [1.5, 2.5])
