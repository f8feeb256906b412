-- How often are the labels of imagined episodes true, in each arm of a study: what the judge accepts against the simulator?
-- Parameters: study; alpha (default: the arm's own, else 0.8). Base rate: the share of true successes among all imagined.
-- Episodes in quarantine, and those imagined from them, are left out.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
judged AS (
  SELECT DISTINCT r.recipe, r.seed, r.iteration, s.owner, s.episode_id, s.p_success, t.alpha
  FROM runs r JOIN reward_scores s ON s.artifact_id = r.owner_id
  LEFT JOIN thresholds t ON t.experiment = r.experiment AND t.iteration = r.iteration
  WHERE r.asset = 'reward_scores' AND s.judge <> 'simulator' AND s.episode_id NOT IN (SELECT episode_id FROM in_quarantine)
),
truth AS (
  SELECT DISTINCT r.recipe, r.seed, r.iteration, s.owner, s.episode_id, s.p_success > 0.5 AS success
  FROM runs r JOIN reward_scores s ON s.artifact_id = r.owner_id
  WHERE r.asset = 'imagined_outcomes' AND s.judge = 'simulator'
),
compared AS (
  SELECT
    recipe, seed, iteration, coalesce($alpha::DOUBLE, j.alpha, 0.8) AS threshold,
    j.p_success > coalesce($alpha::DOUBLE, j.alpha, 0.8) AS accepted, truth.success
  FROM judged j JOIN truth USING (recipe, seed, iteration, owner, episode_id)
)
SELECT
  recipe, seed, iteration, threshold, count(*) AS imagined, count(*) FILTER (WHERE success) AS true_successes,
  count(*) FILTER (WHERE accepted) AS kept, count(*) FILTER (WHERE accepted AND success) AS kept_true,
  kept_true / nullif(kept, 0) AS precision, true_successes / imagined AS base_rate
FROM compared
GROUP BY recipe, seed, iteration, threshold
ORDER BY recipe, seed, iteration
