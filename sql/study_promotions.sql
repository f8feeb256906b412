-- What did each iteration of a study begin with: was the newest model promoted, or the one before kept?
-- Parameters: study. Every decision that loop_state wrote down, as it wrote it.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current)
SELECT r.recipe, r.seed, r.iteration, o.metrics_json AS noted
FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
WHERE r.asset = 'loop_state' AND r.iteration > 1
ORDER BY r.recipe, r.seed, r.iteration
