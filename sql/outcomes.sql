-- How did the episodes end, and how long were they: episodes per outcome and length?
-- Parameters: experiment, iteration, task (default all of each), purpose ('rollout', 'evaluation', ...; default all).
-- Episodes in quarantine are counted apart: left_out; the other numbers are without them.
SELECT
  a.experiment, a.iteration, e.purpose, e.task,
  CASE WHEN e.success THEN 'success' WHEN e.success IS NULL THEN 'not judged' ELSE 'failure' END AS outcome, e.event,
  count(*) FILTER (WHERE NOT e.quarantined) AS episodes, coalesce(sum(e.num_steps) FILTER (WHERE NOT e.quarantined), 0) AS steps,
  min(e.num_steps) FILTER (WHERE NOT e.quarantined) AS shortest, median(e.num_steps) FILTER (WHERE NOT e.quarantined) AS median,
  max(e.num_steps) FILTER (WHERE NOT e.quarantined) AS longest, count(*) FILTER (WHERE e.quarantined) AS left_out
FROM artifacts a
JOIN episodes e ON e.artifact_id = a.owner_id
WHERE a.is_current
  AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
  AND a.iteration = coalesce($iteration::INTEGER, a.iteration)
  AND e.task = coalesce($task::VARCHAR, e.task)
  AND e.purpose = coalesce($purpose::VARCHAR, e.purpose)
GROUP BY a.experiment, a.iteration, e.purpose, e.task, outcome, e.event
ORDER BY a.experiment, a.iteration, e.purpose, e.task, outcome DESC, episodes DESC, e.event
