-- What did this episode reach: every artifact that depends on it, by the rows that were read, and how?
-- Parameters: episode_id; artifact_id (default every artifact that holds an episode of that id).
-- 'rows': only the rows that name it; 'whole': everything in the artifact. Pointers to what was reached are listed too.
SELECT
  a.asset, a.partition, a.kind, a.is_current, a.artifact_id,
  if(bool_or(r.episode_id IS NULL), 'whole', 'rows') AS how,
  if(bool_or(r.episode_id IS NULL), NULL, count(DISTINCT (r.owner, r.episode_id))) AS rows,
  max(m.weight) AS weight_as_member
FROM reached_by([$episode_id::VARCHAR], $artifact_id::VARCHAR) r
JOIN artifacts a USING (artifact_id)
LEFT JOIN members m
  ON m.artifact_id = a.owner_id AND m.episode_id = $episode_id::VARCHAR
  AND m.owner IN (SELECT artifact_id FROM episodes WHERE episode_id = $episode_id::VARCHAR)
GROUP BY a.sequence, a.asset, a.partition, a.kind, a.is_current, a.artifact_id
ORDER BY a.sequence
