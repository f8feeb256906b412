-- From which real failures did imagination find a success, and how often?
-- Parameters: experiment, iteration (default all), alpha (default: the iteration's own, else 0.8), at_least (imagined
-- successes; default 1; with 0 also the failures from which imagination found none). Episodes in quarantine, and those
-- imagined from them, are left out.
WITH scores AS (
  SELECT DISTINCT e.artifact_id, e.episode_id, e.start_episode_id, s.judge, s.p_success
  FROM artifacts a
  JOIN reward_scores s ON s.artifact_id = a.owner_id
  JOIN episodes e ON e.episode_id = s.episode_id
  WHERE a.is_current AND e.purpose = 'imagined' AND NOT e.quarantined
    AND (e.artifact_id = s.owner
      OR s.owner IS NULL AND (s.artifact_id, e.artifact_id) IN (SELECT (child_id, parent_id) FROM edges))
),
tried AS (  -- the start is a row of an artifact that the imagined one was made from
  SELECT DISTINCT g.parent_id, s.* FROM scores s JOIN edges g ON g.child_id = s.artifact_id
),
counted AS (
  SELECT
    a.experiment, a.iteration, e.task, e.episode_id, e.event, t.judge,
    count(t.episode_id) AS imagined,
    count(t.episode_id) FILTER (WHERE t.p_success > coalesce($alpha::DOUBLE, k.alpha, 0.8)) AS imagined_successes,
    max(t.p_success) AS best_score, e.artifact_id
  FROM artifacts a
  JOIN episodes e ON e.artifact_id = a.owner_id
  LEFT JOIN tried t ON t.parent_id = e.artifact_id AND t.start_episode_id = e.episode_id
  LEFT JOIN thresholds k ON k.experiment = a.experiment AND k.iteration = a.iteration
  WHERE a.is_current AND e.purpose = 'rollout' AND NOT e.success AND NOT e.quarantined
    AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
    AND a.iteration = coalesce($iteration::INTEGER, a.iteration)
  GROUP BY a.experiment, a.iteration, e.task, e.episode_id, e.event, t.judge, e.artifact_id
)
SELECT * FROM counted
WHERE imagined_successes >= coalesce($at_least::INTEGER, 1)
ORDER BY experiment, iteration, imagined_successes DESC, task, episode_id
