-- How well are the judges of a study calibrated, and how well do they order: AUROC, expected calibration error, Brier score?
-- Parameters: study. Arms that share the artifact are listed together.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
measured AS (
  SELECT owner_id, seed, list(DISTINCT recipe ORDER BY recipe) AS recipes, min(iteration) AS iteration
  FROM runs WHERE asset = 'reward_model_metrics' GROUP BY owner_id, seed
)
SELECT m.recipes, m.seed, m.iteration, v.metric, v.value, v.trials
FROM measured m JOIN evaluations v ON v.artifact_id = m.owner_id
WHERE v.task = 'all' AND v.metric IN ('real_auroc', 'real_ece', 'real_brier')
ORDER BY m.recipes, m.seed, m.iteration, v.metric
