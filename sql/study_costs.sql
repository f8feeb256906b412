-- What did each arm of a study cost up to each iteration: real rollouts, imagined rollouts and frames, seconds of work?
-- Parameters: study. Sums over the iterations so far. What another arm made first counts in full, as if each had run alone;
-- measurements (evaluations, metrics, true outcomes) count for nothing. A frame is all cameras at one control step. Rollouts in
-- which a policy practises are counted with the others.
WITH runs AS (SELECT DISTINCT recipe, seed, iteration, asset, owner_id FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
work AS (
  SELECT r.*, (o.metrics_json ->> '$.seconds')::DECIMAL(18, 3) AS seconds
  FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.asset IN ('real_rollouts', 'latents', 'world_model', 'reward_model', 'imagined_rollouts', 'reward_scores', 'training_set', 'policy')
),
rolled AS (
  SELECT w.recipe, w.seed, w.iteration, count(*) FILTER (WHERE e.purpose = 'rollout') AS real,
    count(*) FILTER (WHERE e.purpose = 'imagined' AND e.world = 'world_model') AS imagined,
    coalesce(sum(e.num_steps) FILTER (WHERE e.purpose = 'imagined' AND e.world = 'world_model'), 0) AS frames
  FROM work w JOIN episodes e ON e.artifact_id = w.owner_id
  GROUP BY w.recipe, w.seed, w.iteration
),
spent AS (SELECT recipe, seed, iteration, sum(coalesce(seconds, 0)) AS seconds FROM work GROUP BY recipe, seed, iteration)
SELECT
  recipe, seed, iteration, sum(coalesce(real, 0)) OVER so_far::BIGINT AS real_rollouts,
  sum(coalesce(imagined, 0)) OVER so_far::BIGINT AS imagined_rollouts, sum(coalesce(frames, 0)) OVER so_far::BIGINT AS imagined_frames,
  (sum(seconds) OVER so_far)::DOUBLE AS seconds
FROM spent LEFT JOIN rolled USING (recipe, seed, iteration)
WINDOW so_far AS (PARTITION BY recipe, seed ORDER BY iteration)
ORDER BY recipe, seed, iteration
