-- Does each world model of a study imagine the outcome right: the robot's outcome against the one judged in the replay?
-- Parameters: study; threshold (of the judge; default all). Counts of task 'all'; a false positive is a real failure that
-- the world model turned into a success. Model 'start': what the iteration began with; 'made': what it made.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
counted AS (
  SELECT DISTINCT
    r.recipe, r.seed, r.iteration, if(r.asset = 'world_model_metrics', 'made', 'start') AS model,
    regexp_extract(v.metric, '_at_(.+)$', 1)::DOUBLE AS threshold,
    (v.detail_json ->> '$.tp')::INTEGER AS tp, (v.detail_json ->> '$.fn')::INTEGER AS fn,
    (v.detail_json ->> '$.tn')::INTEGER AS tn, (v.detail_json ->> '$.fp')::INTEGER AS fp
  FROM runs r JOIN evaluations v ON v.artifact_id = r.owner_id
  WHERE r.asset IN ('world_model_metrics', 'start_world_model_metrics') AND v.task = 'all'
    AND regexp_matches(v.metric, '^replay_(precision|recall|false_positive_rate)_at_[0-9.]+$')
)
SELECT *, fp / nullif(fp + tn, 0) AS false_positive_rate
FROM counted
WHERE threshold = coalesce($threshold::DOUBLE, threshold)
ORDER BY recipe, seed, iteration, model DESC, threshold
