-- What did this episode reach: every artifact that depends on it, by the rows that were read, and how?
-- Parameters: episode_id; artifact_id (default every artifact that holds an episode of that id).
-- 'rows': only the rows that name it; 'whole': everything in the artifact. Pointers to what was reached are listed too.
WITH RECURSIVE
named AS (  -- which row names which episode; an id names an episode only together with the artifact that owns it
  SELECT artifact_id, episode_id AS names, owner, owner AS row_owner, episode_id AS row_id FROM members
  UNION ALL
  SELECT artifact_id, episode_id, owner, owner, episode_id FROM reward_scores
  UNION ALL
  SELECT artifact_id, start_episode_id, NULL, artifact_id, episode_id FROM episodes WHERE start_episode_id IS NOT NULL
),
picked AS (  -- episodes that were read where not all of them were
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
reached(artifact_id, owner, episode_id) AS (  -- without an episode: the whole artifact
  SELECT artifact_id, artifact_id, episode_id FROM episodes
  WHERE episode_id = $episode_id::VARCHAR AND artifact_id = coalesce($artifact_id::VARCHAR, artifact_id)
  UNION
  SELECT g.child_id, coalesce(n.row_owner, if(n.row_id IS NULL, NULL, r.owner)), n.row_id
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
  a.asset, a.partition, a.kind, a.is_current, a.artifact_id,
  if(bool_or(r.episode_id IS NULL), 'whole', 'rows') AS how,
  if(bool_or(r.episode_id IS NULL), NULL, count(DISTINCT (r.owner, r.episode_id))) AS rows,
  max(m.weight) AS weight_as_member
FROM reached r
JOIN artifacts a ON a.owner_id = r.artifact_id
LEFT JOIN members m
  ON m.artifact_id = r.artifact_id AND m.episode_id = $episode_id::VARCHAR
  AND m.owner IN (SELECT artifact_id FROM episodes WHERE episode_id = $episode_id::VARCHAR)
GROUP BY a.sequence, a.asset, a.partition, a.kind, a.is_current, a.artifact_id
ORDER BY a.sequence
