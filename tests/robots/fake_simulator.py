"""A simulator of the embedded robot's kind that a test runs as a process: `fake_simulator.py WAY SOCKET`.

WAY: "well", or how it fails: "unready", "dies", "fails", "hangs".
"""

from __future__ import annotations

import os
import socket
import sys
import time

import numpy as np

from vlaw_models.episodes import Observation, Outcome
from vlaw_models.errors import VlawError
from vlaw_models.robots.process import serve
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.worlds import Transition, ended


class Fake:
    """Pictures are as bright as the seed, or as the target's gripper."""

    name, robot, image_size = "fake", SPEC, 4

    def __init__(self, way: str):
        if way == "unready":
            raise VlawError("no scenes", where="fake", remedy="Bring some.")
        self.way, self.done_above = way, None

    def reset(self, starts):
        sys.stdout.write("begun\n")  # whatever a simulator prints is no message
        self.starts = starts
        self.state = np.zeros((len(starts), len(SPEC.state)), np.float32)
        bright = np.array([start.seed % 256 for start in starts], np.uint8)
        return Observation(np.broadcast_to(bright[:, None, None, None, None], (len(starts), 3, 4, 4, 3)), self.state)

    def instructions(self):
        return [f"do {start.task}" for start in self.starts]

    def step(self, actions):
        if self.way == "dies":
            sys.stdout.write("out of luck\n")
            sys.stdout.flush()
            os._exit(3)
        if self.way == "fails":
            raise ZeroDivisionError("by nothing")
        if self.way == "hangs":
            time.sleep(60)
        poses = []
        for action in actions.swapaxes(0, 1):
            self.state = SPEC.clip(self.state, action)
            poses.append(self.state)
        states = np.stack(poses, axis=1)
        images = np.zeros((*states.shape[:2], 3, 4, 4, 3), np.uint8)
        images += np.round(states[..., 4, None, None, None, None] * 255).astype(np.uint8)
        reward = (states[..., 4] > 0.5).astype(np.float32)
        return Transition(images, states, states, reward, ended(reward, self.done_above))

    def keep(self, rows):
        self.starts, self.state = [self.starts[row] for row in rows], self.state[rows]

    def outcomes(self):
        return [Outcome(bool(pose[4] > 0.5), "success" if pose[4] > 0.5 else "open") for pose in self.state]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[2])), lambda: Fake(sys.argv[1]))
