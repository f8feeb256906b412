-- By how much is imagined success above real success, in each iteration of a study?
-- Parameters: study. Of arms whose policy practises in the world model: imagined is the mean reward of the last tenth of its RL
-- steps, real the evaluation of the policy that came of them. Of the others: imagined is what the scores accept of the imagined
-- episodes, real the evaluation of the policy that acts in them. A policy that exploits its world model is the further above, the
-- longer it practises. Episodes in quarantine are left out.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
evaluated AS (
  SELECT seed, policy, count(*) AS trials, count(*) FILTER (WHERE success) AS successes
  FROM (
    SELECT DISTINCT r.seed, e.artifact_id, e.episode_id, e.policy, e.success
    FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
    WHERE r.asset IN ('start_evaluation', 'policy_evaluation') AND e.success IS NOT NULL AND NOT e.quarantined
  )
  GROUP BY seed, policy
),
steps AS (
  SELECT r.recipe, r.seed, r.iteration, r.content_digest AS policy, from_json(o.metrics_json -> '$.rl_steps', '["json"]') AS told
  FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.asset = 'policy' AND EXISTS (FROM episodes e WHERE e.artifact_id = r.owner_id AND e.purpose = 'imagined')
),
practised AS (
  SELECT recipe, seed, iteration, policy, len(told) AS rl_steps,
    list_avg(list_transform(list_slice(told, -greatest(1, len(told) // 10), -1), lambda one: (one ->> '$.success')::DOUBLE)) AS imagined
  FROM steps
),
judged AS (
  SELECT r.recipe, r.seed, r.iteration, e.policy, NULL::BIGINT AS rl_steps,
    count(*) FILTER (WHERE s.p_success > coalesce(t.alpha, 0.8)) / count(*) AS imagined
  FROM runs r
  JOIN reward_scores s ON s.artifact_id = r.owner_id AND s.judge <> 'simulator'
  JOIN episodes e ON e.artifact_id = s.owner AND e.episode_id = s.episode_id
  LEFT JOIN thresholds t ON t.experiment = r.experiment AND t.iteration = r.iteration
  WHERE r.asset = 'reward_scores' AND e.world = 'world_model' AND NOT e.quarantined
  GROUP BY r.recipe, r.seed, r.iteration, e.policy
)
SELECT recipe, seed, iteration, rl_steps, imagined, successes / trials AS real, imagined - successes / trials AS optimism
FROM (FROM practised UNION ALL FROM judged) JOIN evaluated USING (seed, policy)
ORDER BY recipe, seed, iteration
