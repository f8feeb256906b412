"""The ledger as OpenLineage run events: one per artifact, a dataset version per input that was read.

An asset is a job, an asset partition a dataset, an artifact a version of it. The inputs are the ledger's edges, so they
say what was read, not what was declared. The Dagster run is the parent of the runs of its artifacts; an artifact that
was found instead of made has the one it was found in as its only input.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

NAMESPACE = "vlaw"
PRODUCER = "urn:vlaw:ledger"
RUNS = uuid.uuid5(uuid.NAMESPACE_URL, PRODUCER)
"""Run ids are made of artifact ids by it, so that exporting twice gives the same events."""


def events(lake: Lake) -> Iterator[dict[str, Any]]:
    """Each event as plain values, in commit order. Raises VlawError where OpenLineage's client is not installed."""
    try:
        from openlineage.client.event_v2 import set_producer
        from openlineage.client.serde import Serde
    except ImportError as error:
        raise VlawError(
            "OpenLineage's client is not installed",
            where="vlaw export openlineage",
            remedy="Install it: pip install 'vlaw[openlineage]'.",
        ) from error
    set_producer(PRODUCER)
    for ref in lake.ledger.artifacts():
        yield Serde.to_dict(_event(lake, ref))


def _event(lake: Lake, ref: ArtifactRef) -> Any:
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import job_type_job, output_statistics_output_dataset

    found = ref.owner != ref.artifact_id
    read = [lake.ledger.get(ref.owner)] if found else [parent for _, parent in lake.ledger.edges(ref.owner)]
    size = sum(file["size"] for entry in ref.versions.values() for file in entry["files"])
    return RunEvent(
        eventTime=ref.created_at.isoformat(timespec="milliseconds"),
        producer=PRODUCER,
        eventType=RunState.COMPLETE,
        run=Run(runId=str(uuid.uuid5(RUNS, ref.artifact_id)), facets=_parent(ref)),
        job=Job(
            namespace=NAMESPACE,
            name=ref.asset,
            facets={
                "jobType": job_type_job.JobTypeJobFacet(
                    processingType="BATCH", integration="VLAW", jobType="REUSE" if found else "ASSET"
                )
            },
        ),
        inputs=[
            InputDataset(namespace=NAMESPACE, name=parent.name, facets=_version(parent))
            for parent in {parent.artifact_id: parent for parent in read}.values()
        ],
        outputs=[
            OutputDataset(
                namespace=NAMESPACE,
                name=ref.name,
                facets=_version(ref),
                outputFacets={
                    "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                        rowCount=ref.num_rows, size=size
                    )
                },
            )
        ],
    )


def _version(ref: ArtifactRef) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=ref.artifact_id)}


def _parent(ref: ArtifactRef) -> dict[str, Any]:
    """The Dagster run; none for what a command has made."""
    from openlineage.client.facet_v2 import parent_run

    with suppress(ValueError):
        run = parent_run.Run(runId=str(uuid.UUID(ref.run_id)))
        return {"parent": parent_run.ParentRunFacet(run=run, job=parent_run.Job(namespace=NAMESPACE, name="dagster"))}
    return {}
