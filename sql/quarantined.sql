-- What is in quarantine, why, and which artifacts depend on it?
-- Parameters: episode_id (default every episode in quarantine).
-- One line per episode and current artifact that it reached; see impact.sql for one episode in full.
WITH RECURSIVE
bad AS (
  SELECT q.episode_id, q.why, q.by, q.at
  FROM artifacts a JOIN quarantine q ON q.artifact_id = a.owner_id
  WHERE a.is_current AND q.episode_id = coalesce($episode_id::VARCHAR, q.episode_id)
),
named AS (
  SELECT artifact_id, episode_id AS names, owner, owner AS row_owner, episode_id AS row_id FROM members
  UNION ALL
  SELECT artifact_id, episode_id, owner, owner, episode_id FROM reward_scores
  UNION ALL
  SELECT artifact_id, start_episode_id, NULL, artifact_id, episode_id FROM episodes WHERE start_episode_id IS NOT NULL
),
picked AS (
  SELECT g.child_id, g.parent_id, g.role, m.owner, m.episode_id
  FROM edges g JOIN members m ON m.artifact_id = g.selection_id AND m.weight > 0
  WHERE g.selection = 'members'
  UNION ALL
  SELECT r.artifact_id, r.parent_id, g.role, r.parent_id, r.episode_id
  FROM reads r JOIN edges g ON g.child_id = r.artifact_id AND g.parent_id = r.parent_id AND g.selection = 'listed'
),
left_out AS (  -- in quarantine when the child was made, with what was imagined from them
  SELECT g.child_id, q.episode_id
  FROM edges g JOIN quarantine q ON q.artifact_id = g.parent_id WHERE g.role = 'quarantine'
  UNION
  SELECT g.child_id, e.episode_id
  FROM edges g JOIN quarantine q ON q.artifact_id = g.parent_id
  JOIN episodes e ON e.start_episode_id = q.episode_id
  WHERE g.role = 'quarantine'
),
reached(origin, artifact_id, owner, episode_id) AS (
  SELECT b.episode_id, e.artifact_id, e.artifact_id, e.episode_id FROM bad b JOIN episodes e USING (episode_id)
  UNION
  SELECT r.origin, g.child_id, coalesce(n.row_owner, if(n.row_id IS NULL, NULL, r.owner)), n.row_id
  FROM reached r
  JOIN edges g ON g.parent_id = r.artifact_id
  LEFT JOIN named n
    ON g.scope = 'rows' AND n.artifact_id = g.child_id AND n.names = r.episode_id
    AND coalesce(n.owner, r.owner) = r.owner
  LEFT JOIN picked p
    ON p.child_id = g.child_id AND p.parent_id = g.parent_id AND p.role = g.role
    AND p.episode_id = r.episode_id AND p.owner = r.owner
  LEFT JOIN left_out x ON x.child_id = g.child_id AND x.episode_id = r.episode_id
  WHERE r.episode_id IS NULL
    OR x.episode_id IS NULL AND (
      n.row_id IS NOT NULL OR g.scope = 'whole' AND (g.selection = 'all' OR p.episode_id IS NOT NULL)
    )
)
SELECT
  b.episode_id, b.why, b.by, b.at, a.asset, a.partition,
  if(bool_or(r.episode_id IS NULL), 'whole', 'rows') AS how, a.artifact_id
FROM bad b
LEFT JOIN reached r ON r.origin = b.episode_id
LEFT JOIN artifacts a ON a.owner_id = r.artifact_id AND a.is_current
GROUP BY b.episode_id, b.why, b.by, b.at, a.sequence, a.asset, a.partition, a.artifact_id
ORDER BY b.at, b.episode_id, a.sequence
