-- What did each judge of a study say of the held-out real clips, and what was true?
-- Parameters: study. Calibration and threshold sweeps are made from these rows. Arms that share the artifact are listed together.
WITH runs AS (
  SELECT *, substr(experiment, length($study::VARCHAR) + 2) AS rest,
    regexp_extract(rest, '^(.+)-s([0-9]+)$', 1) AS recipe, TRY_CAST(regexp_extract(rest, '-s([0-9]+)$', 1) AS INTEGER) AS seed
  FROM artifacts
  WHERE is_current AND starts_with(experiment, $study::VARCHAR || '-') AND regexp_matches(experiment, '-s[0-9]+$')
    AND NOT EXISTS (  -- of a study 'a', not what belongs to a study 'a-b'
      SELECT 1 FROM artifacts s WHERE s.asset = 'study' AND length(s.experiment) > length($study::VARCHAR)
        AND starts_with(artifacts.experiment, s.experiment || '-'))
),
measured AS (
  SELECT owner_id, seed, list(DISTINCT recipe ORDER BY recipe) AS recipes, min(iteration) AS iteration
  FROM runs WHERE asset = 'reward_model_metrics' GROUP BY owner_id, seed
)
SELECT DISTINCT m.recipes, m.seed, m.iteration, s.judge, e.task, e.episode_id, s.p_success, e.success
FROM measured m
JOIN reward_scores s ON s.artifact_id = m.owner_id
JOIN episodes e ON e.episode_id = s.episode_id AND e.artifact_id = s.owner
WHERE e.success IS NOT NULL
ORDER BY m.recipes, m.seed, m.iteration, e.task, e.episode_id
