"""Which iteration a recording is of: the one that starts from the policy that its session served.

An iteration's real rollouts are those of the policy that its `loop_state` starts with: that of the iteration before, or
an older one where the promotion gate refused it. Policies are told apart by their content: a session may have served
the same one under another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlaw_assets.assets.inbox_recordings import INBOX
from vlaw_assets.assets.making import STAGES
from vlaw_assets.assets.stage import Stage
from vlaw_assets.inbox.recording import Note
from vlaw_assets.partitions import partition_of
from vlaw_assets.serving.session import read_session
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_assets.pipeline.resources import Workplace
    from vlaw_assets.recipes.schema import Recipe

SHORT = 12
"""Digits of a digest that people are shown."""


class NotNowError(VlawError):
    """A recording cannot be judged as recipes, foundation or experiment are: no fault of its own."""


@dataclass(frozen=True)
class Assignment:
    """Where a recording belongs."""

    session: str
    recipe: Recipe
    iteration: int
    policy: ArtifactRef
    """That acted."""

    @property
    def partition(self) -> str:
        return partition_of(self.recipe.name, self.iteration)


def open_iteration(lake: Lake, recipe: Recipe) -> int | None:
    """The first iteration without real rollouts; None where all have some."""
    for number in range(1, recipe.iterations + 1):
        if lake.ledger.current("real_rollouts", partition_of(recipe.name, number)) is None:
            return number
    return None


def policy_before(lake: Lake, workplace: Workplace, recipe: Recipe, iteration: int) -> ArtifactRef:
    """The policy that an iteration starts with: of one with real rollouts as it was, else as a run would choose it now.

    Raises VlawError where that cannot be said, as long as the iteration before is not done.
    """
    partition = partition_of(recipe.name, iteration)
    state = lake.ledger.current("loop_state", partition)
    if state is not None and lake.ledger.current("real_rollouts", partition) is not None:
        return dict(lake.ledger.edges(state.artifact_id))["policy"]
    return STAGES["loop_state"].plan(Stage(lake, workplace, "loop_state", partition)).parents["policy"]


def assigned(lake: Lake, workplace: Workplace, note: Note, *, where: str) -> Assignment:
    """Where a recording of this note belongs.

    Raises VlawError for a session that this lake has not served, whose policy no iteration starts from, or which the
    note contradicts; NotNowError where the experiment is not ready for it.
    """
    session = read_session(lake, note.session)
    _same("experiment", note.experiment, session.experiment, where)
    _same("policy_content_sha256", note.policy_content_sha256, session.policy_content_sha256, where)
    try:
        recipe = workplace.recipe(session.experiment)
    except VlawError as error:
        raise _not_now(error) from error
    if recipe.rollouts.source != INBOX:
        raise NotNowError(
            f"experiment {recipe.name} takes its real rollouts from {recipe.rollouts.source!r}, not from the inbox",
            where=where,
            remedy=f"Set [rollouts] source = '{INBOX}' in {recipe.name}.toml, or import it by name (vlaw import).",
        )
    for what, robot in (("experiment", recipe.robot), ("recording", note.description.get("robot", recipe.robot))):
        if robot != session.robot:
            raise VlawError(
                f"session {session.id} served a policy for robot {session.robot!r}, the {what} is of robot {robot!r}",
                where=where,
                remedy="Name the session that the recording was made with.",
            )
    policy = next((ref for ref in lake.ledger.artifacts() if ref.artifact_id == session.policy), None)
    if policy is None or policy.content_digest != session.policy_content_sha256:
        raise VlawError(
            f"the policy of session {session.id} is not the one of that id in this lake",
            where=where,
            remedy="Drop the recording into the inbox of the lake whose policy was served.",
        )
    return Assignment(session.id, recipe, _iteration(lake, workplace, recipe, note, policy, where), policy)


def _iteration(lake: Lake, workplace: Workplace, recipe: Recipe, note: Note, policy: ArtifactRef, where: str) -> int:
    """The open iteration if it starts from this policy, else the last one before that did."""
    newest = open_iteration(lake, recipe) or recipe.iterations
    if note.iteration and not 1 <= note.iteration <= newest:
        raise VlawError(
            f"iteration {note.iteration} of {recipe.name} is not open: {newest} is",
            where=where,
            remedy="Leave iteration out: it follows from the session.",
        )
    starts: dict[int, ArtifactRef] = {}
    error: VlawError | None = None
    for number in [note.iteration] if note.iteration else range(newest, 0, -1):
        try:
            starts[number] = policy_before(lake, workplace, recipe, number)
        except VlawError as not_yet:
            error = error or not_yet
            continue
        if starts[number].content_digest == policy.content_digest:
            return number
    if error is not None and not starts:
        raise _not_now(error) from error
    number, start = next(iter(starts.items()))
    raise VlawError(
        f"the session served {policy.name} ({policy.content_digest[:SHORT]}), and iteration {number:02d} of "
        f"{recipe.name} starts from {start.name} ({start.content_digest[:SHORT]})",
        where=where,
        remedy="Record with the policy that the open iteration starts from (vlaw inbox names it), or import this one "
        "by name (vlaw import).",
    )


def _not_now(error: VlawError) -> NotNowError:
    return NotNowError(error.what, where=error.where, remedy=error.remedy)


def _same(key: str, said: str, follows: str, where: str) -> None:
    if said and said != follows:
        raise VlawError(
            f"{key} is {said!r:.80}, and of its session {follows!r}",
            where=where,
            remedy=f"Leave {key} out, or name the session that the recording was made with.",
        )
