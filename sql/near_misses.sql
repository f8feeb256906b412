-- Which episodes are near misses: real failures that came far, and scores close to the threshold?
-- Parameters: experiment, iteration (default all), alpha (default: the iteration's own, else 0.8), band (default 0.1:
-- how far from alpha), nearness (default 0.7: real failures that ended at least so near to success), events (comma-separated: failures by how they ended instead; where
-- nearness was not measured, by default those of the embedded tasks in which the last phase was reached). What is in quarantine is left out.
WITH late_events AS (
  SELECT unnest(string_split(coalesce(
    $events::VARCHAR,
    'not_released,toppled,half_open,mark_left,not_poured,spilled,too_few,second_stroke,open_curve,not_round'
  ), ',')) AS event
),
scores AS (
  SELECT a.experiment, a.iteration, e.artifact_id, e.episode_id, s.judge, s.p_success
  FROM artifacts a
  JOIN reward_scores s ON s.artifact_id = a.owner_id
  JOIN episodes e ON e.episode_id = s.episode_id
  WHERE a.is_current
    AND (e.artifact_id = s.owner
      OR s.owner IS NULL AND (s.artifact_id, e.artifact_id) IN (SELECT (child_id, parent_id) FROM edges))
),
seen AS (
  SELECT DISTINCT
    a.experiment, a.iteration, if(e.purpose = 'imagined', 'imagined', 'real') AS kind, e.purpose, e.task, e.artifact_id,
    e.episode_id, e.event, e.nearness, s.judge, s.p_success, abs(s.p_success - coalesce($alpha::DOUBLE, t.alpha, 0.8)) AS distance,
    CASE WHEN $events IS NULL AND e.nearness IS NOT NULL THEN if(e.nearness >= coalesce($nearness::DOUBLE, 0.7), 'nearness', NULL)
      WHEN e.event IN (SELECT event FROM late_events) THEN 'event' END AS came_far,
    -- 0.8 - 0.7 is not 0.1 in binary
    coalesce(abs(s.p_success - coalesce($alpha::DOUBLE, t.alpha, 0.8)) <= coalesce($band::DOUBLE, 0.1) + 1e-9, false) AS is_close
  FROM artifacts a
  JOIN episodes e ON e.artifact_id = a.owner_id
  LEFT JOIN scores s ON s.artifact_id = e.artifact_id AND s.episode_id = e.episode_id
    AND s.experiment = a.experiment AND s.iteration = a.iteration
  LEFT JOIN thresholds t ON t.experiment = a.experiment AND t.iteration = a.iteration
  WHERE a.is_current AND NOT e.quarantined
    AND (e.purpose = 'imagined' OR e.purpose IN ('rollout', 'validation', 'evaluation') AND NOT e.success)
    AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
    AND a.iteration = coalesce($iteration::INTEGER, a.iteration)
)
SELECT
  experiment, iteration, kind, purpose, task, episode_id, event, nearness, judge, p_success, distance,
  concat_ws(' and ', came_far, if(is_close, 'score', NULL)) AS why, artifact_id
FROM seen
WHERE came_far IS NOT NULL OR is_close
ORDER BY experiment, iteration, kind, task, distance, episode_id
