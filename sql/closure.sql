-- What does this policy stand on: every artifact it was made from, directly or not, and how many rows each holds?
-- Parameters: experiment, iteration, asset (default 'policy'); or artifact_id for any artifact. Reuse is followed.
WITH RECURSIVE
chosen AS (
  SELECT owner_id FROM artifacts
  WHERE CASE
    WHEN $artifact_id::VARCHAR IS NOT NULL THEN artifact_id = $artifact_id::VARCHAR
    ELSE is_current AND asset = coalesce($asset::VARCHAR, 'policy')
      AND experiment = $experiment::VARCHAR AND iteration = $iteration::INTEGER
  END
),
up(id) AS (
  SELECT owner_id FROM chosen
  UNION  -- not UNION ALL: an artifact reached by two ways counts once
  SELECT p.owner_id FROM up JOIN edges e ON e.child_id = up.id JOIN artifacts p ON p.artifact_id = e.parent_id
)
SELECT
  a.asset, a.partition, a.kind, a.num_rows, a.artifact_id, a.content_digest,
  (SELECT string_agg(DISTINCT e.role, ', ' ORDER BY e.role)
   FROM edges e WHERE e.parent_id = a.artifact_id AND e.child_id IN (SELECT id FROM up)) AS read_as_role
FROM up JOIN artifacts a ON a.artifact_id = up.id
ORDER BY a.sequence
