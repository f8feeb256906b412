-- What did each iteration of a study begin with: was the newest model promoted, or the one before kept?
-- Parameters: study. Every decision that loop_state wrote down, as it wrote it.
WITH runs AS (
  SELECT *, substr(experiment, length($study::VARCHAR) + 2) AS rest,
    regexp_extract(rest, '^(.+)-s([0-9]+)$', 1) AS recipe, TRY_CAST(regexp_extract(rest, '-s([0-9]+)$', 1) AS INTEGER) AS seed
  FROM artifacts
  WHERE is_current AND starts_with(experiment, $study::VARCHAR || '-') AND regexp_matches(experiment, '-s[0-9]+$')
    AND NOT EXISTS (  -- of a study 'a', not what belongs to a study 'a-b'
      SELECT 1 FROM artifacts s WHERE s.asset = 'study' AND length(s.experiment) > length($study::VARCHAR)
        AND starts_with(artifacts.experiment, s.experiment || '-'))
)
SELECT r.recipe, r.seed, r.iteration, o.metrics_json AS noted
FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
WHERE r.asset = 'loop_state' AND r.iteration > 1
ORDER BY r.recipe, r.seed, r.iteration
