-- What did each judge of a study say of the held-out real clips, and what was true?
-- Parameters: study. Calibration and threshold sweeps are made from these rows. Arms that share the artifact are listed together.
-- Clips in quarantine are left out.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
measured AS (
  SELECT owner_id, seed, list(DISTINCT recipe ORDER BY recipe) AS recipes, min(iteration) AS iteration
  FROM runs WHERE asset = 'reward_model_metrics' GROUP BY owner_id, seed
)
SELECT DISTINCT m.recipes, m.seed, m.iteration, s.judge, e.task, e.episode_id, s.p_success, e.success
FROM measured m
JOIN reward_scores s ON s.artifact_id = m.owner_id
JOIN episodes e ON e.episode_id = s.episode_id AND e.artifact_id = s.owner
WHERE e.success IS NOT NULL AND NOT e.quarantined
ORDER BY m.recipes, m.seed, m.iteration, e.task, e.episode_id
