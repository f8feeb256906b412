-- Where does this episode come from and where did it go: its start, models, scores, datasets and policies?
-- Parameters: episode_id; artifact_id (default every artifact that holds an episode of that id).
WITH it AS (
  SELECT * FROM episodes
  WHERE episode_id = $episode_id::VARCHAR AND artifact_id = coalesce($artifact_id::VARCHAR, artifact_id)
),
start AS (
  SELECT e.* FROM it JOIN edges g ON g.child_id = it.artifact_id
  JOIN episodes e ON e.artifact_id = g.parent_id AND e.episode_id = it.start_episode_id
),
models AS (  -- what acted and what it acted in are named by content: the first artifact with it counts
  SELECT place, role, arg_min(a.artifact_id, a.sequence) AS artifact_id
  FROM (
    SELECT 3 AS place, 'policy that acted' AS role, policy AS digest FROM it
    UNION SELECT 4, 'world model it was imagined in', world_model FROM it
    UNION SELECT 2, 'policy that acted in the start', policy FROM start
  ) JOIN artifacts a ON a.content_digest = digest
  WHERE digest <> ''
  GROUP BY place, role, digest
),
datasets AS (
  SELECT m.artifact_id, m.weight, m.source
  FROM members m JOIN it ON it.artifact_id = m.owner AND it.episode_id = m.episode_id
),
steps AS (
  SELECT 1 AS place, 'real start' AS step, artifact_id, episode_id, event AS detail FROM start
  UNION ALL SELECT place, role, artifact_id, NULL, NULL FROM models
  UNION ALL SELECT 5, 'the episode', artifact_id, episode_id, if(event = '', purpose, purpose || ': ' || event) FROM it
  UNION ALL
  SELECT DISTINCT 6, 'scored', s.artifact_id, s.episode_id,
    'p_success = ' || round(s.p_success, 4) || ', judge ' || s.judge[:12]
  FROM it JOIN reward_scores s ON s.episode_id = it.episode_id
  WHERE s.owner = it.artifact_id
    OR s.owner IS NULL AND (s.artifact_id, it.artifact_id) IN (SELECT (child_id, parent_id) FROM edges)
  UNION ALL SELECT 7, 'member', artifact_id, $episode_id::VARCHAR, source || ', weight ' || weight FROM datasets
  UNION ALL
  SELECT DISTINCT 8, 'imagined from it', e.artifact_id, e.episode_id, e.purpose
  FROM it JOIN edges g ON g.parent_id = it.artifact_id
  JOIN episodes e ON e.artifact_id = g.child_id AND e.start_episode_id = it.episode_id
  UNION ALL
  SELECT DISTINCT 9, if(r.weight > 0, 'learned from', 'read, with no weight'), r.child_id, r.episode_id, r.role
  FROM it JOIN episode_reads r ON r.parent_id = it.artifact_id AND r.episode_id = it.episode_id
  JOIN artifacts c ON c.artifact_id = r.child_id
  WHERE c.kind IN ('world_model', 'reward_model', 'policy') AND c.source_artifact_id = ''
)
SELECT s.step, a.asset, a.partition, s.episode_id, s.detail, a.is_current, a.artifact_id
FROM steps s JOIN artifacts a ON a.owner_id = s.artifact_id
ORDER BY s.place, a.sequence, s.episode_id
