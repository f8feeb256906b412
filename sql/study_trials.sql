-- How did every evaluation trial of a study end: which policies won which start?
-- Parameters: study; recipe, noise ('reported', 'low'; default all of each). The same task and start is the same layout
-- for every policy and seed (those in quarantine are left out), so outcomes are compared in pairs.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
evaluated AS (  -- what all arms of a seed begin with is one policy: the base, iteration 0
  SELECT
    if(starts_with(asset, 'start_'), 'base', recipe) AS recipe, seed, if(starts_with(asset, 'start_'), 0, iteration) AS iteration,
    if(ends_with(asset, '_low_noise'), 'low', 'reported') AS noise, arg_min(owner_id, sequence) AS owner_id
  FROM runs
  WHERE asset IN ('policy_evaluation', 'policy_evaluation_low_noise')
    OR iteration = 1 AND asset IN ('start_evaluation', 'start_evaluation_low_noise')
  GROUP BY ALL
)
SELECT v.recipe, v.iteration, v.noise, v.seed, e.task, e.seed AS start, e.success
FROM evaluated v JOIN episodes e ON e.artifact_id = v.owner_id
WHERE e.success IS NOT NULL AND NOT e.quarantined AND v.recipe = coalesce($recipe::VARCHAR, v.recipe) AND v.noise = coalesce($noise::VARCHAR, v.noise)
ORDER BY v.noise DESC, v.recipe, v.iteration, v.seed, e.seed, e.task
