-- Where do people disagree: with the judge of an imagined or real episode, with what was recorded, or with each other?
-- Parameters: task (default all), alpha (default: the iteration's own, else 0.8). One line per label in force and what
-- contradicts it: a judge's verdict, the recorded outcome, or the latest label of somebody else. A near success counts as a failure, but for people.
WITH said AS (
  SELECT DISTINCT
    e.artifact_id, e.episode_id, e.purpose, e.task, e.event, e.recorded, e.label_source, l.label, l.label = 'success' AS success,
    l.who, l.why, l."at"
  FROM episodes e JOIN labels_in_force l ON l.episode_id = e.episode_id
  WHERE e.task = coalesce($task::VARCHAR, e.task)
),
scores AS (
  SELECT DISTINCT s.artifact_id, s.owner, s.episode_id, s.judge, s.p_success, coalesce($alpha::DOUBLE, t.alpha, 0.8) AS alpha
  FROM artifacts a JOIN reward_scores s ON s.artifact_id = a.owner_id
  LEFT JOIN thresholds t ON t.experiment = a.experiment AND t.iteration = a.iteration
  WHERE a.is_current
),
others AS (
  SELECT episode_id, who, arg_max(label, position) AS label FROM label_history GROUP BY episode_id, who
)
SELECT
  if(s.judge = 'simulator', 'simulator', 'judge') AS against, l.purpose, l.task, l.episode_id, l.label, l.who,
  s.judge AS says, s.p_success, l.why, l."at", l.artifact_id
FROM said l JOIN scores s ON s.episode_id = l.episode_id
  AND (s.owner = l.artifact_id OR s.owner IS NULL AND (s.artifact_id, l.artifact_id) IN (SELECT (child_id, parent_id) FROM edges))
WHERE l.success <> (s.p_success > s.alpha)
UNION
SELECT
  'recorded', purpose, task, episode_id, label, who, label_source || ': ' || if(recorded, 'success', 'failure'), NULL, why, "at",
  artifact_id
FROM said WHERE recorded <> success
UNION
SELECT 'person', l.purpose, l.task, l.episode_id, l.label, l.who, o.who || ': ' || o.label, NULL, l.why, l."at", l.artifact_id
FROM said l JOIN others o ON o.episode_id = l.episode_id AND o.who <> l.who AND o.label <> l.label
ORDER BY against, task, episode_id, says, artifact_id
