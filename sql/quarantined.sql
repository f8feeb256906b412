-- What is in quarantine, why, and which artifacts depend on it?
-- Parameters: episode_id (default every episode in quarantine).
-- One line per episode and current artifact that it reached; see impact.sql for one episode in full.
WITH bad AS (
  SELECT q.episode_id, q.why, q.by, q.at
  FROM artifacts a JOIN quarantine q ON q.artifact_id = a.owner_id
  WHERE a.is_current AND q.episode_id = coalesce($episode_id::VARCHAR, q.episode_id)
),
touched AS (
  SELECT r.origin, a.sequence, a.asset, a.partition, a.artifact_id, r.episode_id
  FROM reached_by((SELECT list(episode_id) FROM bad), NULL) r JOIN artifacts a ON a.artifact_id = r.artifact_id AND a.is_current
)
SELECT
  b.episode_id, b.why, b.by, b.at, t.asset, t.partition,
  if(bool_or(t.episode_id IS NULL), 'whole', 'rows') AS how, t.artifact_id
FROM bad b LEFT JOIN touched t ON t.origin = b.episode_id
GROUP BY b.episode_id, b.why, b.by, b.at, t.sequence, t.asset, t.partition, t.artifact_id
ORDER BY b.at, b.episode_id, t.sequence
