-- What has a study run: per recipe, seed and iteration the artifacts made and reused, how long they took, and when?
-- Parameters: study. Artifacts that were replaced count too: they took their time. Times are seconds since 1970; an
-- artifact's time is that of its commit, its seconds go from the beginning of its stage to there. CPU seconds are those that
-- the study noted of the partition as a whole. Sums are of milliseconds: exact, whatever the order of the rows.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR)
SELECT
  recipe, seed, iteration, count(*) AS artifacts, count(*) FILTER (WHERE source_artifact_id = '') AS made,
  count(*) FILTER (WHERE source_artifact_id <> '') AS reused,
  coalesce(sum((metrics_json ->> '$.seconds')::DECIMAL(18, 3)) FILTER (WHERE source_artifact_id = ''), 0)::DOUBLE AS seconds,
  (sum((metrics_json ->> '$.cpu_s')::DECIMAL(18, 3)) FILTER (WHERE source_artifact_id = '' AND asset = 'study_progress'))::DOUBLE AS cpu_seconds,
  min(epoch(created_at) - coalesce(if(source_artifact_id = '', (metrics_json ->> '$.seconds')::DOUBLE, 0), 0)) AS began,
  max(epoch(created_at)) AS ended,
  bool_or(asset = 'policy_evaluation') AS evaluated
FROM runs
GROUP BY recipe, seed, iteration
ORDER BY recipe, seed, iteration
