-- Which episodes are there twice: the same content in one dataset, or among the rollouts of one experiment?
-- Parameters: experiment (default all).
WITH places AS (
  SELECT 'dataset ' || a.asset AS place, a.experiment, a.iteration, m.owner AS artifact_id, m.episode_id
  FROM artifacts a JOIN members m ON m.artifact_id = a.owner_id
  WHERE a.is_current
  UNION ALL
  -- over all iterations: a rollout should be new
  SELECT DISTINCT e.purpose || 's', a.experiment, NULL, e.artifact_id, e.episode_id
  FROM artifacts a JOIN episodes e ON e.artifact_id = a.owner_id
  WHERE a.is_current AND e.purpose IN ('rollout', 'demonstration')
)
SELECT
  p.place, p.experiment, p.iteration, e.task, e.content_digest, count(*) AS copies,
  list(p.episode_id ORDER BY p.episode_id) AS episode_ids
FROM places p JOIN episodes e ON e.artifact_id = p.artifact_id AND e.episode_id = p.episode_id
WHERE p.experiment = coalesce($experiment::VARCHAR, p.experiment)
GROUP BY p.place, p.experiment, p.iteration, e.task, e.content_digest
HAVING count(*) > 1
ORDER BY p.place, p.experiment, p.iteration, e.task, e.content_digest
