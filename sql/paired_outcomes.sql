-- Which trials did one policy win and the other lose, on the same held-out seeds?
-- Parameters: experiment_a, iteration_a, experiment_b, iteration_b (0: the policy that iteration 1 began with).
-- A start that either side has in quarantine is left out, and counted so.
WITH trials AS (
  SELECT side, e.task, e.seed, e.success, e.quarantined
  FROM (
    SELECT 'a' AS side, $experiment_a::VARCHAR AS experiment, $iteration_a::INTEGER AS iteration
    UNION ALL SELECT 'b', $experiment_b::VARCHAR, $iteration_b::INTEGER
  ) chosen
  JOIN artifacts a ON a.is_current AND a.experiment = chosen.experiment
    AND if(chosen.iteration = 0, a.asset = 'start_evaluation' AND a.iteration = 1,
           a.asset = 'policy_evaluation' AND a.iteration = chosen.iteration)
  JOIN episodes e ON e.artifact_id = a.owner_id
  WHERE e.success IS NOT NULL
),
paired AS (
  SELECT task, a.success AS a, b.success AS b, a.quarantined OR b.quarantined AS out
  FROM (SELECT * FROM trials WHERE side = 'a') a JOIN (SELECT * FROM trials WHERE side = 'b') b USING (task, seed)
)
SELECT
  coalesce(task, 'all') AS task, count(*) FILTER (WHERE NOT out) AS trials,
  count(*) FILTER (WHERE a AND b AND NOT out) AS both, count(*) FILTER (WHERE a AND NOT b AND NOT out) AS only_a,
  count(*) FILTER (WHERE b AND NOT a AND NOT out) AS only_b, count(*) FILTER (WHERE NOT a AND NOT b AND NOT out) AS neither,
  avg(b::INTEGER) FILTER (WHERE NOT out) - avg(a::INTEGER) FILTER (WHERE NOT out) AS difference,
  count(*) FILTER (WHERE out) AS left_out
FROM paired
GROUP BY GROUPING SETS ((task), ())
HAVING count(*) > 0
ORDER BY task IS NULL, task
