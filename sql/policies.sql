-- Which policies are there: from what data, judge, world model and code, and how often do they succeed?
-- Parameters: experiment (default all).
-- Episodes are those that its own update learned from; trials in quarantine are left out, and counted so.
WITH made AS (
  SELECT
    a.sequence, a.experiment, a.iteration, a.asset, a.artifact_id, a.owner_id, a.content_digest, a.created_at,
    o.code_revision, o.recipe_digest
  FROM artifacts a JOIN artifacts o ON o.artifact_id = a.owner_id
  WHERE a.is_current AND a.kind = 'policy' AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
),
data AS (
  SELECT child_id,
    count(*) FILTER (WHERE purpose <> 'imagined') AS real_episodes, count(*) FILTER (WHERE purpose = 'imagined') AS imagined_episodes
  FROM (SELECT DISTINCT child_id, parent_id, episode_id, purpose FROM episode_reads WHERE weight > 0)
  GROUP BY child_id
),
models AS (
  SELECT experiment, iteration,
    any_value(content_digest) FILTER (WHERE asset = 'reward_model') AS judge,
    any_value(content_digest) FILTER (WHERE asset = 'world_model') AS world_model
  FROM artifacts WHERE is_current AND partition <> '' GROUP BY experiment, iteration
),
success AS (
  SELECT e.policy, count(*) FILTER (WHERE NOT e.quarantined) AS trials,
    avg(e.success::INTEGER) FILTER (WHERE NOT e.quarantined) AS rate, count(*) FILTER (WHERE e.quarantined) AS left_out
  FROM (SELECT DISTINCT owner_id FROM artifacts WHERE is_current AND kind = 'evaluation') a  -- not at low noise
  JOIN episodes e ON e.artifact_id = a.owner_id
  WHERE e.purpose = 'evaluation' AND e.success IS NOT NULL GROUP BY e.policy
)
SELECT
  p.experiment, p.iteration, p.asset, d.real_episodes, d.imagined_episodes, s.trials, s.rate AS success,
  m.judge, m.world_model,
  p.code_revision, p.recipe_digest, p.created_at, p.artifact_id, coalesce(s.left_out, 0) AS left_out
FROM made p
LEFT JOIN data d ON d.child_id = p.owner_id
LEFT JOIN models m ON m.experiment = p.experiment AND m.iteration = p.iteration
LEFT JOIN success s ON s.policy = p.content_digest
ORDER BY p.sequence
