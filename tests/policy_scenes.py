"""A synthetic reaching problem for policy tests: two coloured squares on a table, the instruction names one of them."""

from __future__ import annotations

import numpy as np
from factories import episode

from vlaw_models.episodes import Episode

REACH = 0.05
COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}
SENTENCES = ("move to the {} square", "reach the {} square")


def reaching_episodes(count: int, *, seed: int, size: int = 32, steps: int = 8, square: int = 5) -> list[Episode]:
    """Episodes (3 cameras, 5 dimensions) that move straight to the named square, 5 cm per step, and close the
    gripper."""
    rng = np.random.default_rng(seed)
    episodes = []
    for number in range(count):
        names = list(rng.permutation(list(COLOURS)))
        while True:
            places = rng.uniform(-0.15, 0.15, size=(2, 2))
            if np.abs(places[0] - places[1]).max() > 0.09:
                break
        goal = np.array([*places[0], 0.05, 0.0, 1.0])
        state = np.array([*rng.uniform(-0.15, 0.15, size=2), 0.15, 0.0, 0.0])
        states, actions, images = [state], [], [_views(size, square, names, places, state)]
        for _ in range(steps):
            target = state + np.clip(goal - state, -REACH, REACH)
            target[4] = float(np.abs(goal - target)[:3].max() < 0.02)
            actions.append(target)
            state = target
            states.append(state)
            images.append(_views(size, square, names, places, state))
        episodes.append(
            episode(
                "reach",
                number,
                instruction=SENTENCES[number % 2].format(names[0]),
                images=np.stack(images),
                states=np.array(states, dtype=np.float32),
                actions=np.array(actions, dtype=np.float32),
                extra={"goal": goal[:2], "other": places[1]},
            )
        )
    return episodes


def _views(size: int, square: int, names: list[str], places: np.ndarray, state: np.ndarray) -> np.ndarray:
    """(3, size, size, 3) uint8: the table from above, turned by a right angle, and a window around the hand."""
    top = np.full((size, size, 3), 190, dtype=np.uint8)
    top[[1, -2]] = 90
    top[:, [1, -2]] = 90
    for name, place in list(zip(names, places, strict=True)):
        _paint(top, place, square, COLOURS[name])
    hand = np.roll(top, tuple(-np.round(state[:2] / 0.4 * (size - 1)).astype(int)), axis=(0, 1))
    _paint(top, state[:2], max(2, square // 2), (20, 20, 20))
    return np.stack([top, np.rot90(top), hand])


def _paint(image: np.ndarray, place: np.ndarray, width: int, colour: tuple[int, int, int]) -> None:
    size = len(image)
    row, column = np.round((place + 0.2) / 0.4 * (size - 1) - (width - 1) / 2).astype(int)
    image[max(row, 0) : row + width, max(column, 0) : column + width] = colour
