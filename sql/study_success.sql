-- How often does each policy of a study succeed, per seed and over all seeds, per task and over all, at both noises?
-- Parameters: study; recipe, task, noise ('reported', 'low'; default all of each). With its 95 % Wilson interval.
-- Trials in quarantine are left out, and counted so. Recipe 'base', iteration 0: the policy that all begin with. Seed NULL: all seeds; task 'all': all tasks.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
evaluated AS (  -- what all arms of a seed begin with is one policy: the base, iteration 0
  SELECT
    if(starts_with(asset, 'start_'), 'base', recipe) AS recipe, seed, if(starts_with(asset, 'start_'), 0, iteration) AS iteration,
    if(ends_with(asset, '_low_noise'), 'low', 'reported') AS noise, arg_min(owner_id, sequence) AS owner_id
  FROM runs
  WHERE asset IN ('policy_evaluation', 'policy_evaluation_low_noise')
    OR iteration = 1 AND asset IN ('start_evaluation', 'start_evaluation_low_noise')
  GROUP BY ALL
),
counted AS (
  SELECT
    v.recipe, v.iteration, v.noise, v.seed, coalesce(e.task, 'all') AS task,
    min((o.recipe_json ->> '$.evaluation.noise_scale')::DOUBLE) AS noise_scale, count(*) FILTER (WHERE NOT e.quarantined) AS trials,
    count(*) FILTER (WHERE e.success AND NOT e.quarantined) AS successes, count(*) FILTER (WHERE e.quarantined) AS left_out
  FROM evaluated v
  JOIN artifacts o ON o.artifact_id = v.owner_id
  JOIN episodes e ON e.artifact_id = v.owner_id
  WHERE e.success IS NOT NULL
  GROUP BY GROUPING SETS (
    (v.recipe, v.iteration, v.noise, v.seed, e.task), (v.recipe, v.iteration, v.noise, v.seed),
    (v.recipe, v.iteration, v.noise, e.task), (v.recipe, v.iteration, v.noise))
),
rates AS (
  SELECT *, successes / nullif(trials, 0) AS rate, 1.959963984540054 AS z FROM counted
)
SELECT
  recipe, iteration, noise, noise_scale, seed, task, trials, successes, rate,
  CASE WHEN trials > 0 THEN greatest(0, (rate + z * z / (2 * trials) - z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)))
    / (1 + z * z / trials)) END AS low,
  CASE WHEN trials > 0 THEN least(1, (rate + z * z / (2 * trials) + z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)))
    / (1 + z * z / trials)) END AS high, left_out
FROM rates
WHERE recipe = coalesce($recipe::VARCHAR, recipe) AND task = coalesce($task::VARCHAR, task)
  AND noise = coalesce($noise::VARCHAR, noise)
ORDER BY noise DESC, iteration > 0, recipe, iteration, seed NULLS FIRST, task = 'all', task
