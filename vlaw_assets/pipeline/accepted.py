"""Which of the artifacts that Dagster knows and a lake lacks were accepted: noted in the Dagster instance, per lake.

Whoever put an older copy of a lake in place, knowing what that takes away, accepts it once (`vlaw reconcile --accept`);
each artifact by its id, so that the next loss is seen again. The note lies where the evidence does: it outlives the
lake, and is lost with DAGSTER_HOME only, together with the events. A lake is known by the first link of its ledger's
chain, which all of its copies share and no other lake has: what was accepted of one lake is not accepted of another
one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import Lake


def load(lake: Lake, instance: dg.DagsterInstance) -> dict[str, str]:
    """Artifact id -> when it was accepted (UTC)."""
    key = _key(lake)
    text = instance.daemon_cursor_storage.get_cursor_values({key}).get(key, "{}")
    return {str(name): str(at) for name, at in json.loads(text).items()}


def note(lake: Lake, instance: dg.DagsterInstance, artifacts: Iterable[str]) -> None:
    """Accept these too. One that the ledger has again (the newer lake was put back) is no longer accepted: it can be
    lost anew."""
    before = load(lake, instance)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known = {ref.artifact_id for ref in lake.ledger.artifacts()}
    after = {name: at for name, at in (dict.fromkeys(artifacts, now) | before).items() if name not in known}
    if after != before:
        instance.daemon_cursor_storage.set_cursor_values({_key(lake): json.dumps(after, sort_keys=True)})


def _key(lake: Lake) -> str:
    try:
        with lake.paths.chain.open("rb") as file:
            first = json.loads(file.readline())["chain"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VlawError(
            "the first line of ledger.chain cannot be read",
            where=str(lake.paths.chain),
            remedy="`vlaw audit --all --verify` names all that is damaged; restore it from a copy",
        ) from error
    return f"vlaw/accepted/{first}"
