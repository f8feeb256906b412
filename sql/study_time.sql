-- Where did a study's time go: per asset the artifacts made and reused, and the seconds of those made?
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
  asset, count(*) FILTER (WHERE source_artifact_id = '') AS made, count(*) FILTER (WHERE source_artifact_id <> '') AS reused,
  coalesce(sum((metrics_json ->> '$.seconds')::DOUBLE) FILTER (WHERE source_artifact_id = ''), 0) AS seconds
FROM runs
GROUP BY asset
ORDER BY seconds DESC, asset
