-- What did a point of success cost: real minutes of the robot and seconds of compute, per iteration?
-- Parameters: experiment (default all), hz (control steps a second; default 5).
-- A point is one percentage point of success over all trials. What an experiment shares with another counts for both;
-- what it made in an earlier iteration is not counted again. Artifacts without a duration add 0 seconds. Success leaves out the
-- trials in quarantine (left_out); the robot's minutes were spent all the same.
WITH used AS (
  SELECT experiment, min(iteration) AS iteration, owner_id
  FROM artifacts WHERE is_current AND partition <> '' GROUP BY experiment, owner_id
),
compute AS (
  SELECT u.experiment, u.iteration, sum(coalesce((o.metrics_json ->> '$.seconds')::DECIMAL(18, 3), 0))::DOUBLE AS seconds
  FROM used u JOIN artifacts o ON o.artifact_id = u.owner_id GROUP BY u.experiment, u.iteration
),
robot AS (
  SELECT
    u.experiment, u.iteration,
    count(*) FILTER (WHERE e.purpose = 'rollout') AS rollouts,
    coalesce(sum(e.num_steps) FILTER (WHERE e.purpose = 'rollout'), 0) AS rollout_steps, sum(e.num_steps) AS robot_steps
  FROM used u JOIN episodes e ON e.artifact_id = u.owner_id
  WHERE e.purpose IN ('rollout', 'validation', 'evaluation') GROUP BY u.experiment, u.iteration
),
success AS (
  SELECT a.experiment, a.iteration,
    avg(e.success::INTEGER) FILTER (WHERE a.asset = 'start_evaluation' AND NOT e.quarantined) AS before,
    avg(e.success::INTEGER) FILTER (WHERE a.asset = 'policy_evaluation' AND NOT e.quarantined) AS after,
    count(*) FILTER (WHERE a.asset IN ('start_evaluation', 'policy_evaluation') AND e.quarantined) AS left_out
  FROM artifacts a JOIN episodes e ON e.artifact_id = a.owner_id
  WHERE a.is_current AND e.purpose = 'evaluation' AND e.success IS NOT NULL GROUP BY a.experiment, a.iteration
),
each AS (
  SELECT *, 100 * (after - before) AS points, rollout_steps / coalesce($hz::DOUBLE, 5) / 60 AS rollout_minutes,
    robot_steps / coalesce($hz::DOUBLE, 5) / 60 AS robot_minutes
  FROM compute LEFT JOIN robot USING (experiment, iteration) LEFT JOIN success USING (experiment, iteration)
)
SELECT
  experiment, iteration, rollouts, rollout_minutes, robot_minutes, seconds AS compute_seconds, before, after, points,
  -- where nothing was gained there is no price
  CASE WHEN points > 0 THEN rollout_minutes / points END AS minutes_per_point,
  CASE WHEN points > 0 THEN seconds / points END AS seconds_per_point, coalesce(left_out, 0) AS left_out
FROM each
WHERE experiment = coalesce($experiment::VARCHAR, experiment)
ORDER BY experiment, iteration
