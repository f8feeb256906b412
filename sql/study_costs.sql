-- What did each arm of a study cost up to each iteration: rollouts on the robot, imagined rollouts and frames, seconds of work?
-- Parameters: study. Sums over the iterations so far that made their policy. What another arm made first counts in full, as if each
-- had run alone. A frame is all cameras at one control step. Rollouts in which a policy practises are counted with the others. Stop
-- trials: the validation rollouts by which a policy's stop is chosen, on the robot too; the policy's seconds hold them. Other
-- measurements (evaluations, metrics, true outcomes) count for nothing. Pair episodes: success and near-success of the robot on
-- which the world model was finetuned, made once for all arms. Control steps: of all these rollouts, real and imagined; steps
-- saved: those not made, since a reward said done.
WITH runs AS (SELECT DISTINCT recipe, seed, iteration, asset, owner_id FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
work AS (
  SELECT
    r.*, (o.metrics_json ->> '$.seconds')::DECIMAL(18, 3) AS seconds, (o.metrics_json ->> '$.ended_early')::BIGINT AS ended_early,
    (o.metrics_json ->> '$.steps_saved')::BIGINT AS steps_saved, (o.recipe_json ->> '$.world_model.near_success')::BOOLEAN AS pairs
  FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.asset IN ('real_rollouts', 'latents', 'world_model', 'reward_model', 'imagined_rollouts', 'reward_scores', 'training_set', 'policy')
),
rolled AS (
  SELECT w.recipe, w.seed, w.iteration, count(*) FILTER (WHERE e.purpose = 'rollout') AS real,
    count(*) FILTER (WHERE e.purpose = 'imagined' AND e.world = 'world_model') AS imagined,
    coalesce(sum(e.num_steps) FILTER (WHERE e.purpose = 'imagined' AND e.world = 'world_model'), 0) AS frames,
    coalesce(sum(e.num_steps) FILTER (WHERE e.purpose = 'rollout' OR e.purpose = 'imagined' AND e.world = 'world_model'), 0) AS steps
  FROM work w JOIN episodes e ON e.artifact_id = w.owner_id
  GROUP BY w.recipe, w.seed, w.iteration
),
chosen AS (
  SELECT w.recipe, w.seed, w.iteration, sum(v.trials) AS trials
  FROM work w JOIN evaluations v ON v.artifact_id = w.owner_id
  WHERE w.asset = 'policy' AND v.metric = 'validation_success' AND v.task <> 'all'
  GROUP BY w.recipe, w.seed, w.iteration
),
paired AS (
  SELECT count(*) AS episodes
  FROM artifacts o JOIN episodes e ON e.artifact_id = o.owner_id
  WHERE o.asset = 'near_success' AND o.partition = '' AND o.is_current
),
spent AS (
  SELECT recipe, seed, iteration, sum(coalesce(seconds, 0)) AS seconds, sum(ended_early) AS ended_early,
    sum(steps_saved) AS steps_saved, bool_or(coalesce(pairs, false)) AS pairs, bool_or(asset = 'policy') AS finished
  FROM work GROUP BY recipe, seed, iteration
)
SELECT
  recipe, seed, iteration, sum(coalesce(real, 0)) OVER so_far::BIGINT AS real_rollouts,
  sum(coalesce(chosen.trials, 0)) OVER so_far::BIGINT AS stop_trials,
  if(bool_or(pairs) OVER so_far, paired.episodes, 0)::BIGINT AS pair_episodes,
  sum(coalesce(imagined, 0)) OVER so_far::BIGINT AS imagined_rollouts, sum(coalesce(frames, 0)) OVER so_far::BIGINT AS imagined_frames,
  sum(coalesce(steps, 0)) OVER so_far::BIGINT AS control_steps,
  coalesce(sum(ended_early) OVER so_far, 0)::BIGINT AS ended_early, coalesce(sum(steps_saved) OVER so_far, 0)::BIGINT AS steps_saved,
  (sum(seconds) OVER so_far)::DOUBLE AS seconds
FROM spent LEFT JOIN rolled USING (recipe, seed, iteration) LEFT JOIN chosen USING (recipe, seed, iteration) CROSS JOIN paired
WHERE finished
WINDOW so_far AS (PARTITION BY recipe, seed ORDER BY iteration)
ORDER BY recipe, seed, iteration
