-- How did the episodes end, and how long were they: episodes per outcome and length?
-- Parameters: experiment, iteration, task (default all of each), purpose ('rollout', 'evaluation', ...; default all).
SELECT
  a.experiment, a.iteration, e.purpose, e.task,
  CASE WHEN e.success THEN 'success' WHEN e.success IS NULL THEN 'not judged' ELSE 'failure' END AS outcome, e.event,
  count(*) AS episodes, sum(e.num_steps) AS steps, min(e.num_steps) AS shortest, median(e.num_steps) AS median,
  max(e.num_steps) AS longest
FROM artifacts a
JOIN episodes e ON e.artifact_id = a.owner_id
WHERE a.is_current
  AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
  AND a.iteration = coalesce($iteration::INTEGER, a.iteration)
  AND e.task = coalesce($task::VARCHAR, e.task)
  AND e.purpose = coalesce($purpose::VARCHAR, e.purpose)
GROUP BY a.experiment, a.iteration, e.purpose, e.task, outcome, e.event
ORDER BY a.experiment, a.iteration, e.purpose, e.task, outcome DESC, episodes DESC, e.event
