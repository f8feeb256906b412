-- From how many of the real starts that failed did imagined actions truly lead to success, in each arm of a study?
-- Parameters: study. True: the imagined actions played on the simulator (privileged information, used only to measure).
-- Tries: how many imagined episodes began at those starts; one try each finds less than four do.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
failed AS (
  SELECT r.recipe, r.seed, r.iteration, e.episode_id
  FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
  WHERE r.asset = 'real_rollouts' AND NOT e.success AND NOT e.quarantined
),
tried AS (
  SELECT r.recipe, r.seed, r.iteration, coalesce(e.task, 'all') AS task, count(*) AS tries
  FROM runs r
  JOIN episodes e ON e.artifact_id = r.owner_id
  JOIN failed f ON f.recipe = r.recipe AND f.seed = r.seed AND f.iteration = r.iteration AND f.episode_id = e.start_episode_id
  WHERE r.asset = 'imagined_rollouts' AND NOT e.quarantined
  GROUP BY GROUPING SETS ((r.recipe, r.seed, r.iteration, e.task), (r.recipe, r.seed, r.iteration))
)
SELECT r.recipe, r.seed, r.iteration, v.task, v.trials, v.successes, v.value, v.low, v.high, coalesce(t.tries, 0) AS tries
FROM runs r
JOIN evaluations v ON v.artifact_id = r.owner_id
LEFT JOIN tried t ON t.recipe = r.recipe AND t.seed = r.seed AND t.iteration = r.iteration AND t.task = v.task
WHERE r.asset = 'imagined_outcomes' AND v.metric = 'failed_starts_covered'
ORDER BY r.recipe, r.seed, r.iteration, v.task = 'all', v.task
