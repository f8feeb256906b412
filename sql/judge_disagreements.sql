-- Where do labels disagree: two judges on the same episode, or a judge and the robot's own outcome?
-- Parameters: alpha (default: the iteration's own, else 0.8), task (default all). Episodes in quarantine are left out.
-- What a person says of an episode is its outcome; see label_disagreements.sql for all that contradicts people.
WITH scores AS (
  SELECT DISTINCT
    e.artifact_id, e.episode_id, e.purpose, e.task, e.success, e.event,
    if(e.label IS NULL, e.label_source, 'person') AS label_source, s.judge, s.p_success,
    s.p_success > coalesce($alpha::DOUBLE, t.alpha, 0.8) AS verdict
  FROM artifacts a
  JOIN reward_scores s ON s.artifact_id = a.owner_id
  JOIN episodes e ON e.episode_id = s.episode_id
  LEFT JOIN thresholds t ON t.experiment = a.experiment AND t.iteration = a.iteration
  WHERE a.is_current AND NOT e.quarantined AND e.task = coalesce($task::VARCHAR, e.task)
    AND (e.artifact_id = s.owner
      OR s.owner IS NULL AND (s.artifact_id, e.artifact_id) IN (SELECT (child_id, parent_id) FROM edges))
)
SELECT
  if('simulator' IN (a.judge, b.judge), 'judge against simulator', 'two judges') AS kind, a.purpose, a.task, a.episode_id, a.event,
  a.judge AS judge_a, a.p_success AS p_a, a.verdict AS says_a,
  b.judge AS judge_b, b.p_success AS p_b, b.verdict AS says_b, a.artifact_id
FROM scores a JOIN scores b USING (artifact_id, episode_id)
WHERE a.judge < b.judge AND a.verdict <> b.verdict
UNION ALL
SELECT
  'judge against ' || label_source, purpose, task, episode_id, event, judge, p_success, verdict, label_source,
  success::INTEGER, success, artifact_id
FROM scores WHERE success IS NOT NULL AND success <> verdict
ORDER BY kind, task, episode_id, judge_a
