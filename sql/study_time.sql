-- Where did a study's time go: per asset the artifacts made and reused, and the seconds of those made?
-- Parameters: study.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR)
SELECT
  asset, count(*) FILTER (WHERE source_artifact_id = '') AS made, count(*) FILTER (WHERE source_artifact_id <> '') AS reused,
  coalesce(sum((metrics_json ->> '$.seconds')::DECIMAL(18, 3)) FILTER (WHERE source_artifact_id = ''), 0)::DOUBLE AS seconds
FROM runs
GROUP BY asset
ORDER BY seconds DESC, asset
