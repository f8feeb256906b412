-- What has a study run: per recipe, seed and iteration the artifacts made and reused, how long they took, and when?
-- Parameters: study. Artifacts that were replaced count too: they took their time. Times are seconds since 1970; an
-- artifact's time is that of its commit, its seconds go from the beginning of its stage to there. CPU seconds are those that
-- the study noted of the partition as a whole.
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
  recipe, seed, iteration, count(*) AS artifacts, count(*) FILTER (WHERE source_artifact_id = '') AS made,
  count(*) FILTER (WHERE source_artifact_id <> '') AS reused,
  coalesce(sum((metrics_json ->> '$.seconds')::DOUBLE) FILTER (WHERE source_artifact_id = ''), 0) AS seconds,
  sum((metrics_json ->> '$.cpu_s')::DOUBLE) FILTER (WHERE source_artifact_id = '' AND asset = 'study_progress') AS cpu_seconds,
  min(epoch(created_at) - coalesce(if(source_artifact_id = '', (metrics_json ->> '$.seconds')::DOUBLE, 0), 0)) AS began,
  max(epoch(created_at)) AS ended,
  bool_or(asset = 'policy_evaluation') AS evaluated
FROM runs
GROUP BY recipe, seed, iteration
ORDER BY recipe, seed, iteration
