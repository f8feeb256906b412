-- From how many of the real starts that failed did imagined actions truly lead to success, by number of tries, in each arm of a study?
-- Parameters: study. True: the imagined actions played on the simulator (privileged information, used only to measure).
-- first_tries NULL: all failed starts, by all tries that were made of them. 1, 2, 4, 8: the failed starts that were tried at least
-- so often, by the first so many. Tries: how many these were in all. Low, high: 95 % Wilson. Episodes in quarantine are left out.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
tries AS (
  SELECT r.recipe, r.seed, r.iteration, e.start_episode_id, s.p_success > 0.5 AS success,
    row_number() OVER (PARTITION BY r.recipe, r.seed, r.iteration, e.start_episode_id ORDER BY e.episode_index) AS number
  FROM runs r
  JOIN reward_scores s ON s.artifact_id = r.owner_id AND s.judge = 'simulator'
  JOIN episodes e ON e.artifact_id = s.owner AND e.episode_id = s.episode_id
  WHERE r.asset = 'imagined_outcomes' AND NOT e.quarantined
),
failed AS (
  SELECT r.recipe, r.seed, r.iteration, e.task, e.episode_id, count(t.number) AS tries,
    min(t.number) FILTER (WHERE t.success) AS rescued_by
  FROM runs r
  JOIN episodes e ON e.artifact_id = r.owner_id
  SEMI JOIN tries k ON k.recipe = r.recipe AND k.seed = r.seed AND k.iteration = r.iteration
  LEFT JOIN tries t ON t.recipe = r.recipe AND t.seed = r.seed AND t.iteration = r.iteration AND t.start_episode_id = e.episode_id
  WHERE r.asset = 'real_rollouts' AND NOT e.success AND NOT e.quarantined
  GROUP BY ALL
),
counted AS (
  SELECT recipe, seed, iteration, coalesce(task, 'all') AS task, first_tries, count(*) AS trials,
    count(*) FILTER (WHERE rescued_by <= coalesce(first_tries, tries)) AS successes,
    sum(coalesce(first_tries, tries))::BIGINT AS tries, successes / trials AS value, 1.959963984540054 AS z
  FROM failed CROSS JOIN (VALUES (NULL), (1), (2), (4), (8)) AS numbers(first_tries)
  WHERE first_tries IS NULL OR tries >= first_tries
  GROUP BY GROUPING SETS ((recipe, seed, iteration, task, first_tries), (recipe, seed, iteration, first_tries))
)
SELECT
  recipe, seed, iteration, task, first_tries, trials, successes, value,
  greatest(0, (value + z * z / (2 * trials) - z * sqrt(value * (1 - value) / trials + z * z / (4 * trials * trials)))
    / (1 + z * z / trials)) AS low,
  least(1, (value + z * z / (2 * trials) + z * sqrt(value * (1 - value) / trials + z * z / (4 * trials * trials)))
    / (1 + z * z / trials)) AS high, tries
FROM counted
ORDER BY recipe, seed, iteration, task = 'all', task, first_tries NULLS FIRST
