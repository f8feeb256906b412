"""What is said of measurements that quarantine came after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlaw_assets.lake.quarantine import in_force
from vlaw_assets.lineage.impact import that_reached
from vlaw_assets.reports.iteration.subject import Subject
from vlaw_assets.reports.markup import Html, note

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef


def measured_before(subject: Subject, ref: ArtifactRef) -> Html:
    """A note where this artifact stands on episodes that were put in quarantine after it was made; else nothing."""
    count = len(that_reached(subject.lake, ref, in_force(subject.lake)))
    return (
        note(
            f"Measured before {count} episode{'s' * (count != 1)} that it stands on were put in quarantine; "
            "vlaw run --rebuild-stale measures without them."
        )
        if count
        else Html("")
    )
