-- Does the base policy truly succeed as often by actions chosen inside the world model as on the robot, from the same starts, in each arm of a study?
-- Parameters: study. Of the first iteration, in which the base both collects and imagines. Inside: the imagined actions played
-- on the simulator (privileged information, used only to measure), mean over starts of the mean over the tries from each; only
-- tries in a learned world model. Starts: the first iteration's real rollouts with an outcome that were tried; robot: the
-- outcomes of these. Untried: the other real rollouts; failures are tried first, so that what is left is not by chance.
-- Episodes in quarantine are left out.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current AND iteration = 1),
tried AS (
  SELECT r.recipe, r.seed, e.start_episode_id, count(*) AS tries, count(*) FILTER (WHERE s.p_success > 0.5) / count(*) AS inside
  FROM runs r
  JOIN reward_scores s ON s.artifact_id = r.owner_id AND s.judge = 'simulator'
  JOIN episodes e ON e.artifact_id = s.owner AND e.episode_id = s.episode_id
  WHERE r.asset = 'imagined_outcomes' AND e.world = 'world_model' AND NOT e.quarantined
  GROUP BY r.recipe, r.seed, e.start_episode_id
)
SELECT
  r.recipe, r.seed, count(t.tries) AS starts, count(*) - count(t.tries) AS untried, sum(t.tries)::BIGINT AS tries,
  avg(t.inside ORDER BY e.episode_id) AS inside_rate, count(*) FILTER (WHERE e.success AND t.tries IS NOT NULL) AS robot_successes,
  robot_successes / starts AS robot_rate, inside_rate - robot_rate AS difference
FROM runs r
JOIN episodes e ON e.artifact_id = r.owner_id
LEFT JOIN tried t ON t.recipe = r.recipe AND t.seed = r.seed AND t.start_episode_id = e.episode_id
WHERE r.asset = 'real_rollouts' AND e.success IS NOT NULL AND NOT e.quarantined
GROUP BY r.recipe, r.seed
HAVING count(t.tries) > 0
ORDER BY r.recipe, r.seed
