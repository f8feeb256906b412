-- By how much is imagined success above real success, in each iteration of a study?
-- Parameters: study. Means over tasks of the mean over starts, whatever the tries of a start. Of arms whose policy practises in the
-- world model (starts 'failed'): imagined is what counted as success in the RL step after the chosen stop, the practice of the
-- policy that was chosen; where the last stop was chosen, in the last step, of the policy one update before. Practice begins
-- nearly always where the policy that collected had failed, so these starts alone count; real is the chosen policy's evaluation on
-- the starts that the collecting policy failed in its own evaluation. Of the others (starts 'all'): imagined is what the scores
-- accept of what was imagined from the iteration's real rollouts, real the evaluation of the policy that acts there. A policy that
-- exploits its world model is the further above, the longer it practises. Episodes in quarantine are left out.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
evaluated AS (
  SELECT DISTINCT r.seed, e.artifact_id, e.policy, e.task, e.seed AS start, e.success
  FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
  WHERE r.asset IN ('start_evaluation', 'policy_evaluation') AND e.success IS NOT NULL AND NOT e.quarantined
),
collected AS (
  SELECT r.recipe, r.seed, r.iteration, e.episode_id, e.policy, e.success
  FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
  WHERE r.asset = 'real_rollouts' AND e.purpose = 'rollout' AND e.success IS NOT NULL AND NOT e.quarantined
),
policies AS MATERIALIZED (  -- read once, not for each of their episodes
  SELECT
    r.recipe, r.seed, r.iteration, r.owner_id, r.content_digest AS policy, (o.metrics_json ->> '$.stop')::INTEGER AS stop,
    coalesce(o.recipe_json ->> '$.practice.alpha', o.recipe_json ->> '$.grpo.threshold')::DOUBLE AS threshold
  FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.asset = 'policy'
),
tries AS (
  SELECT
    p.recipe, p.seed, p.iteration, p.policy, 'failed' AS starts, e.task, e.start_episode_id, p.stop,
    (e.extra_json ->> '$.rl_step')::INTEGER AS rl_step, s.p_success > p.threshold AS success
  FROM policies p
  JOIN episodes e ON e.artifact_id = p.owner_id
  JOIN reward_scores s ON s.artifact_id = p.owner_id AND s.episode_id = e.episode_id
  WHERE e.purpose = 'imagined' AND NOT e.quarantined
  WINDOW of_policy AS (PARTITION BY p.recipe, p.seed, p.iteration)
  QUALIFY rl_step = coalesce(min(rl_step) FILTER (rl_step > p.stop) OVER of_policy, max(rl_step) OVER of_policy)
  UNION ALL
  SELECT
    r.recipe, r.seed, r.iteration, e.policy, 'all', e.task, e.start_episode_id, NULL, NULL, s.p_success > coalesce(t.alpha, 0.8)
  FROM runs r
  JOIN reward_scores s ON s.artifact_id = r.owner_id AND s.judge <> 'simulator'
  JOIN episodes e ON e.artifact_id = s.owner AND e.episode_id = s.episode_id
  LEFT JOIN thresholds t ON t.experiment = r.experiment AND t.iteration = r.iteration
  WHERE r.asset = 'reward_scores' AND e.world = 'world_model' AND NOT e.quarantined
),
by_start AS (
  SELECT
    t.recipe, t.seed, t.iteration, t.policy, t.starts, t.stop, t.rl_step, t.task, c.policy AS collector, t.start_episode_id,
    count(*) AS tries, count(*) FILTER (WHERE t.success) / count(*) AS rate
  FROM tries t
  JOIN collected c ON c.recipe = t.recipe AND c.seed = t.seed AND c.iteration = t.iteration AND c.episode_id = t.start_episode_id
  WHERE t.starts = 'all' OR NOT c.success
  GROUP BY ALL
),
by_task AS (
  SELECT
    recipe, seed, iteration, policy, starts, stop, rl_step, task, collector, sum(tries) AS tries,
    avg(rate ORDER BY start_episode_id) AS imagined
  FROM by_start GROUP BY ALL
),
compared AS (
  SELECT b.*, count(*) AS trials, count(*) FILTER (WHERE v.success) / count(*) AS real
  FROM by_task b
  JOIN evaluated v ON v.seed = b.seed AND v.policy = b.policy AND v.task = b.task
  LEFT JOIN evaluated before ON before.seed = b.seed AND before.policy = b.collector AND before.task = b.task AND before.start = v.start
  WHERE b.starts = 'all' OR NOT before.success
  GROUP BY ALL
)
SELECT
  recipe, seed, iteration, starts, stop, rl_step, sum(tries)::BIGINT AS tries, sum(trials)::BIGINT AS trials,
  avg(imagined ORDER BY task) AS imagined, avg(real ORDER BY task) AS real,
  avg(imagined ORDER BY task) - avg(real ORDER BY task) AS optimism
FROM compared
GROUP BY recipe, seed, iteration, starts, stop, rl_step
ORDER BY recipe, seed, iteration
