-- How often does each policy succeed, per experiment, iteration and task, with its 95 % Wilson interval?
-- Parameters: experiment (default all), purpose ('evaluation' by default; 'rollout' for the rollouts it learns from).
-- Asset 'start_evaluation' is the policy that the iteration began with, 'policy_evaluation' the one that it made;
-- '..._low_noise': the same with less of the policy's sampling noise. Trials in quarantine are left out, and counted so.
WITH counted AS (
  SELECT a.experiment, a.iteration, a.asset, e.task, count(*) FILTER (WHERE NOT e.quarantined) AS trials,
    count(*) FILTER (WHERE e.success AND NOT e.quarantined) AS successes, count(*) FILTER (WHERE e.quarantined) AS left_out
  FROM artifacts a
  JOIN episodes e ON e.artifact_id = a.owner_id
  WHERE a.is_current
    AND e.success IS NOT NULL
    AND e.purpose = coalesce($purpose::VARCHAR, 'evaluation')
    AND ($experiment::VARCHAR IS NULL OR a.experiment = $experiment::VARCHAR)
  GROUP BY a.experiment, a.iteration, a.asset, e.task
),
rates AS (
  SELECT *, successes / nullif(trials, 0) AS rate, 1.959963984540054 AS z FROM counted
)
SELECT
  experiment, iteration, asset, task, trials, successes, rate,
  CASE WHEN trials > 0 THEN greatest(0, (rate + z * z / (2 * trials) - z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)))
    / (1 + z * z / trials)) END AS low,
  CASE WHEN trials > 0 THEN least(1, (rate + z * z / (2 * trials) + z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)))
    / (1 + z * z / trials)) END AS high, left_out
FROM rates
ORDER BY experiment, iteration, asset DESC, task
