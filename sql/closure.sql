-- What does this policy stand on: every artifact it was made from, directly or not, and how many rows each holds?
-- Parameters: experiment, iteration, asset (default 'policy'); or artifact_id for any artifact. Reuse is followed.
WITH RECURSIVE
apart AS (  -- pointers that do not stand as their owner does
  SELECT DISTINCT e.child_id FROM edges e JOIN artifacts a ON a.artifact_id = e.child_id WHERE a.source_artifact_id <> ''
),
chosen AS (
  SELECT if(artifact_id IN (FROM apart), artifact_id, owner_id) AS id FROM artifacts
  WHERE CASE
    WHEN $artifact_id::VARCHAR IS NOT NULL THEN artifact_id = $artifact_id::VARCHAR
    ELSE is_current AND asset = coalesce($asset::VARCHAR, 'policy')
      AND experiment = $experiment::VARCHAR AND iteration = $iteration::INTEGER
  END
),
up(id) AS (
  SELECT id FROM chosen
  UNION  -- not UNION ALL: an artifact reached by two ways counts once
  SELECT if(e.read_as IN (FROM apart), e.read_as, e.parent_id) FROM up JOIN edges e ON e.child_id = up.id
)
SELECT
  a.asset, a.partition, a.kind, a.num_rows, a.artifact_id, a.content_digest,
  (SELECT string_agg(DISTINCT e.role, ', ' ORDER BY e.role)
   FROM edges e WHERE a.artifact_id IN (e.parent_id, e.read_as) AND e.child_id IN (SELECT id FROM up)) AS read_as_role
FROM up JOIN artifacts a ON a.artifact_id = up.id
ORDER BY a.sequence
