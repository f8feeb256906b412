-- Which stopping point did each policy of a study take, and how did each do on the validation starts?
-- Parameters: study; task (default 'all', the sum over tasks). Stop 0 is the policy that training began with.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
stops AS (
  SELECT
    r.recipe, r.seed, r.iteration, v.task, (v.detail_json ->> '$.stop')::INTEGER AS stop,
    coalesce((v.detail_json ->> '$.chosen')::BOOLEAN, false) AS chosen, v.trials, v.successes
  FROM runs r JOIN evaluations v ON v.artifact_id = r.owner_id
  WHERE r.asset = 'policy' AND v.metric = 'validation_success'
),
summed AS (
  SELECT recipe, seed, iteration, task, stop, chosen, trials, successes FROM stops
  UNION ALL
  SELECT recipe, seed, iteration, 'all', stop, bool_or(chosen), sum(trials), sum(successes)
  FROM stops
  WHERE (recipe, seed, iteration) NOT IN (SELECT (recipe, seed, iteration) FROM stops WHERE task = 'all')
  GROUP BY recipe, seed, iteration, stop
)
SELECT recipe, seed, iteration, task, stop, chosen, trials, successes, successes / nullif(trials, 0) AS rate
FROM summed
WHERE task = coalesce($task::VARCHAR, 'all')
ORDER BY recipe, seed, iteration, task, stop
