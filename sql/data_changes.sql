-- Which data came and went between two training sets: episodes added, removed, reweighted and kept?
-- Parameters: experiment, iteration_a, iteration_b, experiment_b (default experiment), asset (default 'training_set').
WITH chosen AS (
  SELECT 'a' AS side, owner_id FROM artifacts
  WHERE is_current AND asset = coalesce($asset::VARCHAR, 'training_set')
    AND experiment = $experiment::VARCHAR AND iteration = $iteration_a::INTEGER
  UNION ALL
  SELECT 'b', owner_id FROM artifacts
  WHERE is_current AND asset = coalesce($asset::VARCHAR, 'training_set')
    AND experiment = coalesce($experiment_b::VARCHAR, $experiment::VARCHAR) AND iteration = $iteration_b::INTEGER
),
-- the same episode is the same id with the same content: a forced re-run may repeat an id
held AS (
  SELECT c.side, m.source, e.task, e.success, e.episode_id, e.content_digest, sum(m.weight) AS weight
  FROM chosen c
  JOIN members m ON m.artifact_id = c.owner_id
  JOIN episodes e ON e.artifact_id = m.owner AND e.episode_id = m.episode_id
  GROUP BY ALL
),
compared AS (
  SELECT
    source, coalesce(a.task, b.task) AS task,
    CASE
      WHEN a.episode_id IS NULL THEN 'added'
      WHEN b.episode_id IS NULL THEN 'removed'
      WHEN a.weight <> b.weight THEN 'reweighted'
      ELSE 'kept'
    END AS change,
    coalesce(a.weight, 0) AS weight_a, coalesce(b.weight, 0) AS weight_b
  FROM (SELECT * FROM held WHERE side = 'a') a
  FULL JOIN (SELECT * FROM held WHERE side = 'b') b USING (source, episode_id, content_digest)
)
SELECT source, task, change, count(*) AS episodes, sum(weight_a) AS weight_a, sum(weight_b) AS weight_b
FROM compared
GROUP BY source, task, change
ORDER BY source, task, change
