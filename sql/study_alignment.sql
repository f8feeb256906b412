-- How often does each world model of a study tell the outcome of replayed actions right: by its reward head, and by the judge of its pictures?
-- Parameters: study. The robot's outcome of held-out clips against the one told of their replays; right: told as it was. Counts
-- of task 'all'. Told by 'head': the highest predicted reward of a replay, where the world model has a head; 'judge': P(yes) of
-- its pictures. Model 'start': what the iteration began with; 'made': what it made. Decides: the arm counts as a success what is
-- above this threshold, grpo.threshold where a policy is rewarded by the head, else score.alpha.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
rewarded AS (
  SELECT r.recipe, r.seed, r.iteration, (o.recipe_json ->> '$.grpo.threshold')::DOUBLE AS by_head
  FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.asset = 'policy' AND o.recipe_json ->> '$.grpo.reward' = 'head'
),
counted AS (
  SELECT DISTINCT
    r.recipe, r.seed, r.iteration, if(r.asset = 'world_model_metrics', 'made', 'start') AS model,
    if(starts_with(v.metric, 'head_'), 'head', 'judge') AS told_by, regexp_extract(v.metric, '_at_(.+)$', 1)::DOUBLE AS threshold,
    (o.recipe_json ->> '$.score.alpha')::DOUBLE AS alpha,
    (v.detail_json ->> '$.tp')::INTEGER AS tp, (v.detail_json ->> '$.fn')::INTEGER AS fn,
    (v.detail_json ->> '$.tn')::INTEGER AS tn, (v.detail_json ->> '$.fp')::INTEGER AS fp
  FROM runs r JOIN evaluations v ON v.artifact_id = r.owner_id JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.asset IN ('world_model_metrics', 'start_world_model_metrics') AND v.task = 'all'
    AND regexp_matches(v.metric, '^(head|replay)_(precision|recall|false_positive_rate)_at_[0-9.]+$')
),
known AS (  -- before a seed's policy is made, its threshold is that of the other seeds
  SELECT c.*, coalesce(p.by_head, max(p.by_head) OVER (PARTITION BY c.recipe)) AS by_head
  FROM counted c LEFT JOIN rewarded p USING (recipe, seed, iteration)
)
SELECT
  recipe, seed, iteration, model, told_by, threshold, tp, fn, tn, fp,
  threshold = coalesce(if(told_by = 'head', by_head, NULL), alpha) AS decides,
  tp + tn AS "right", tp + fn + tn + fp AS clips, (tp + tn) / nullif(tp + fn + tn + fp, 0) AS alignment
FROM known
ORDER BY recipe, seed, iteration, model DESC, told_by, threshold
