-- How much real data had each policy of a study learned from when it reached its success?
-- Parameters: study; noise ('reported' by default, or 'low'). Real rollouts are those of all iterations up to this one.
-- Trials in quarantine are left out, and counted so.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
collected AS (
  SELECT r.recipe, r.seed, r.iteration, count(*) AS episodes
  FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
  WHERE r.asset = 'real_rollouts' AND e.purpose = 'rollout'
  GROUP BY r.recipe, r.seed, r.iteration
),
so_far AS (
  SELECT *, sum(episodes) OVER (PARTITION BY recipe, seed ORDER BY iteration) AS real_rollouts FROM collected
),
success AS (
  SELECT r.recipe, r.seed, r.iteration, count(*) FILTER (WHERE NOT e.quarantined) AS trials,
    count(*) FILTER (WHERE e.success AND NOT e.quarantined) AS successes, count(*) FILTER (WHERE e.quarantined) AS left_out
  FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
  WHERE r.asset = if(coalesce($noise::VARCHAR, 'reported') = 'low', 'policy_evaluation_low_noise', 'policy_evaluation')
    AND e.success IS NOT NULL
  GROUP BY r.recipe, r.seed, r.iteration
)
SELECT recipe, seed, iteration, real_rollouts::BIGINT AS real_rollouts, trials, successes, successes / nullif(trials, 0) AS rate, left_out
FROM so_far JOIN success USING (recipe, seed, iteration)
ORDER BY recipe, seed, iteration
