-- What did this episode reach: every artifact that was made from the artifact it belongs to, directly or not?
-- Parameters: episode_id.
WITH RECURSIVE
source AS (
  SELECT DISTINCT artifact_id FROM episodes WHERE episode_id = $episode_id::VARCHAR
),
down(id) AS (
  SELECT artifact_id FROM source
  UNION
  SELECT e.child_id FROM down JOIN edges e ON e.parent_id = down.id
)
SELECT
  a.asset, a.partition, a.kind, a.is_current, a.artifact_id,
  m.weight AS weight_as_member
FROM down
JOIN artifacts a ON a.owner_id = down.id
LEFT JOIN members m
  ON m.artifact_id = down.id AND m.episode_id = $episode_id::VARCHAR AND m.owner IN (SELECT artifact_id FROM source)
ORDER BY a.sequence
