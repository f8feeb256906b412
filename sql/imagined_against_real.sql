-- Is the world model too optimistic: how often do imagined episodes count as successes, against real rollouts?
-- Parameters: experiment (default all), alpha (default 0.8; an imagined episode counts where p_success > alpha).
WITH real AS (
  SELECT a.experiment, a.iteration, e.task, count(*) AS trials, avg(e.success::INTEGER) AS rate
  FROM artifacts a JOIN episodes e ON e.artifact_id = a.owner_id
  WHERE a.is_current AND e.purpose = 'rollout' AND e.success IS NOT NULL
  GROUP BY a.experiment, a.iteration, e.task
),
judged AS (
  -- Forced re-runs repeat episode ids: an id names an episode only together with the artifact that was judged.
  SELECT DISTINCT a.experiment, a.iteration, e.task, s.episode_id, s.judge, s.p_success
  FROM artifacts a
  JOIN reward_scores s ON s.artifact_id = a.owner_id
  JOIN edges g ON g.child_id = s.artifact_id
  JOIN episodes e ON e.artifact_id = g.parent_id AND e.episode_id = s.episode_id
  WHERE a.is_current AND e.purpose = 'imagined'
),
imagined AS (
  SELECT experiment, iteration, task, judge, count(*) AS trials,
    avg((p_success > coalesce($alpha::DOUBLE, 0.8))::INTEGER) AS rate
  FROM judged GROUP BY experiment, iteration, task, judge
)
SELECT
  experiment, iteration, task, i.judge, r.trials AS real_trials, r.rate AS real_rate,
  i.trials AS imagined_trials, i.rate AS imagined_rate, i.rate - r.rate AS optimism
FROM real r FULL JOIN imagined i USING (experiment, iteration, task)
WHERE $experiment::VARCHAR IS NULL OR experiment = $experiment::VARCHAR
ORDER BY experiment, iteration, task, i.judge
