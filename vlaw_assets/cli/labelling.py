"""`vlaw watch --label`: the page of episodes as a small local server whose buttons label them."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

from vlaw_assets.cli.browser import open_browser
from vlaw_assets.cli.output import console
from vlaw_assets.cli.tell import tell_dagster
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_assets.reports.episodes.content import Content


def serve_labelling(lake: Lake, content: Content, *, who: str | None, port: int, opened: bool) -> None:
    """Serves the page until this process is interrupted; then tells Dagster of the labels, and says how many there are.

    Raises VlawError for a port that is taken, and where `who` is empty.
    """
    from vlaw_assets.lake import labels
    from vlaw_assets.lake.rules import LABELS
    from vlaw_assets.reports.episodes.around import labelled
    from vlaw_assets.reports.episodes.page import inlined
    from vlaw_assets.web import labelling

    name = getpass.getuser() if who is None else who
    lists: dict[str, ArtifactRef] = {}
    given: set[str] = set()
    if not name.strip():
        raise VlawError("who labels is missing", where="--who", remedy="Say who: --who ann.")

    def give(episode: str, label: str, why: str) -> dict[str, Any]:
        change = labels.label_episodes(lake, [(episode, label, name, why)])
        if change.ref is not None and change.changed:
            lists[change.ref.artifact_id] = change.ref
            given.add(episode)
        return labelled(lake, {episode})[episode]

    content.data["labelling"] = {"who": name, "labels": list(LABELS)}
    listening, token = labelling.listen(port)
    known = {episode["id"] for episode in content.data["episodes"]}
    app = labelling.Labelling(inlined(content).encode(), known, give, token)
    address = labelling.address(listening, token)
    console.print(f"{address}  (Ctrl-C ends it)", markup=False, soft_wrap=True)
    if opened:
        open_browser(address)
    labelling.serve(app, listening)
    for ref in lists.values():
        tell_dagster(lake, ref)
    said = "; what is stale by it: vlaw status" if given else ""
    console.print(f"{len(given)} episodes were labelled{said}", markup=False)
