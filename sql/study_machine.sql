-- With which versions, threads and code were a study's artifacts made?
-- Parameters: study.
WITH runs AS (
  SELECT *, substr(experiment, length($study::VARCHAR) + 2) AS rest,
    regexp_extract(rest, '^(.+)-s([0-9]+)$', 1) AS recipe, TRY_CAST(regexp_extract(rest, '-s([0-9]+)$', 1) AS INTEGER) AS seed
  FROM artifacts
  WHERE starts_with(experiment, $study::VARCHAR || '-') AND regexp_matches(experiment, '-s[0-9]+$')
    AND NOT EXISTS (  -- of a study 'a', not what belongs to a study 'a-b'
      SELECT 1 FROM artifacts s WHERE s.asset = 'study' AND length(s.experiment) > length($study::VARCHAR)
        AND starts_with(artifacts.experiment, s.experiment || '-'))
)
SELECT
  metrics_json ->> '$.made_with.machine' AS machine, metrics_json ->> '$.made_with.python' AS python,
  metrics_json ->> '$.made_with.torch' AS torch, metrics_json ->> '$.made_with.threads' AS threads, code_revision,
  count(*) AS artifacts
FROM runs
WHERE source_artifact_id = '' AND metrics_json ->> '$.made_with.python' IS NOT NULL
GROUP BY ALL
ORDER BY artifacts DESC, code_revision, threads
