-- With which versions, threads and code were a study's artifacts made?
-- Parameters: study.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR)
SELECT
  metrics_json ->> '$.made_with.machine' AS machine, metrics_json ->> '$.made_with.python' AS python,
  metrics_json ->> '$.made_with.torch' AS torch, metrics_json ->> '$.made_with.threads' AS threads, code_revision,
  count(*) AS artifacts
FROM runs
WHERE source_artifact_id = '' AND metrics_json ->> '$.made_with.python' IS NOT NULL
GROUP BY ALL
ORDER BY artifacts DESC, code_revision, threads
