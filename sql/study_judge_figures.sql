-- How well are the judges of a study calibrated, and how well do they order: AUROC, expected calibration error, Brier score?
-- Parameters: study. Arms that share the artifact are listed together.
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
SELECT m.recipes, m.seed, m.iteration, v.metric, v.value, v.trials
FROM measured m JOIN evaluations v ON v.artifact_id = m.owner_id
WHERE v.task = 'all' AND v.metric IN ('real_auroc', 'real_ece', 'real_brier')
ORDER BY m.recipes, m.seed, m.iteration, v.metric
