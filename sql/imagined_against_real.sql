-- Is the world model too optimistic: how often do imagined episodes count as successes, against real rollouts?
-- Parameters: experiment (default all), alpha (default: the iteration's own, else 0.8; an imagined episode counts where p_success > alpha).
-- Episodes in quarantine are left out, and counted so. Task 'all' is the whole iteration; optimism that grows over iterations is a policy that exploits its world model.
WITH real AS (
  SELECT a.experiment, a.iteration, coalesce(e.task, 'all') AS task, count(*) FILTER (WHERE NOT e.quarantined) AS trials,
    avg(e.success::INTEGER) FILTER (WHERE NOT e.quarantined) AS rate, count(*) FILTER (WHERE e.quarantined) AS left_out
  FROM artifacts a JOIN episodes e ON e.artifact_id = a.owner_id
  WHERE a.is_current AND e.purpose = 'rollout' AND e.success IS NOT NULL
  GROUP BY GROUPING SETS ((a.experiment, a.iteration, e.task), (a.experiment, a.iteration))
),
judged AS (
  -- Forced re-runs repeat episode ids: an id names an episode only together with the artifact that owns it.
  SELECT DISTINCT a.experiment, a.iteration, e.task, e.artifact_id, s.episode_id, s.judge, s.p_success, e.quarantined,
    coalesce($alpha::DOUBLE, t.alpha, 0.8) AS alpha
  FROM artifacts a
  JOIN reward_scores s ON s.artifact_id = a.owner_id
  JOIN episodes e ON e.episode_id = s.episode_id
  LEFT JOIN thresholds t ON t.experiment = a.experiment AND t.iteration = a.iteration
  WHERE a.is_current AND e.purpose = 'imagined'
    AND (e.artifact_id = s.owner
      OR s.owner IS NULL AND (s.artifact_id, e.artifact_id) IN (SELECT (child_id, parent_id) FROM edges))
),
imagined AS (
  SELECT experiment, iteration, coalesce(task, 'all') AS task, judge, count(*) FILTER (WHERE NOT quarantined) AS trials,
    avg((p_success > alpha)::INTEGER) FILTER (WHERE NOT quarantined) AS rate,
    count(*) FILTER (WHERE quarantined) AS left_out
  FROM judged GROUP BY GROUPING SETS ((experiment, iteration, task, judge), (experiment, iteration, judge))
)
SELECT
  experiment, iteration, task, i.judge, r.trials AS real_trials, r.rate AS real_rate,
  i.trials AS imagined_trials, i.rate AS imagined_rate, i.rate - r.rate AS optimism,
  coalesce(r.left_out, 0) + coalesce(i.left_out, 0) AS left_out
FROM real r FULL JOIN imagined i USING (experiment, iteration, task)
WHERE $experiment::VARCHAR IS NULL OR experiment = $experiment::VARCHAR
ORDER BY experiment, iteration, task = 'all', task, i.judge
