-- What is in a training set: how many episodes of each source and task, and how many of them carry weight?
-- Parameters: experiment, iteration, asset (default 'training_set').
SELECT
  m.source, e.task, count(*) AS episodes, count(*) FILTER (WHERE m.weight > 0) AS used, sum(m.weight) AS weight
FROM artifacts a
JOIN members m ON m.artifact_id = a.owner_id
JOIN artifacts o ON o.artifact_id = m.owner
JOIN episodes e ON e.artifact_id = o.owner_id AND e.episode_id = m.episode_id
WHERE a.is_current
  AND a.asset = coalesce($asset::VARCHAR, 'training_set')
  AND a.experiment = $experiment::VARCHAR
  AND a.iteration = $iteration::INTEGER
GROUP BY m.source, e.task
ORDER BY m.source, e.task
