-- What did each model learn from: how many episodes of each dataset, task and outcome, and with what weight?
-- Parameters: experiment, iteration, asset (default 'policy'); or artifact_id for any artifact.
-- Per edge: the episodes of the parent that were selected, without those that the quarantine of that time left out; with a
-- training set those that weigh something in it. The co-training weight of the recipe is not in `weight`.
WITH chosen AS (
  SELECT owner_id FROM artifacts
  WHERE CASE
    WHEN $artifact_id::VARCHAR IS NOT NULL THEN artifact_id = $artifact_id::VARCHAR
    ELSE is_current AND asset = coalesce($asset::VARCHAR, 'policy')
      AND experiment = $experiment::VARCHAR AND iteration = $iteration::INTEGER
  END
)
SELECT
  p.asset AS dataset, p.partition, r.role, r.source, r.purpose, r.task,
  CASE WHEN r.success THEN 'success' WHEN r.success IS NULL THEN 'not judged' ELSE 'failure' END AS outcome,
  r.weight, count(*) AS episodes
FROM chosen c
JOIN episode_reads r ON r.child_id = c.owner_id
JOIN artifacts p ON p.artifact_id = r.parent_id
WHERE r.weight > 0
GROUP BY ALL
ORDER BY ALL
