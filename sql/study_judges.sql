-- How good is each judge of a study on held-out real clips: its confusion at each threshold that was reported?
-- Parameters: study; threshold (default all). Arms that share the artifact (judge, clips, alpha) are listed together.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
measured AS (
  SELECT owner_id, seed, list(DISTINCT recipe ORDER BY recipe) AS recipes, min(iteration) AS iteration
  FROM runs WHERE asset = 'reward_model_metrics' GROUP BY owner_id, seed
),
counted AS (
  SELECT DISTINCT
    m.recipes, m.seed, m.iteration, v.reward_model AS judge, regexp_extract(v.metric, '_at_(.+)$', 1)::DOUBLE AS threshold,
    (v.detail_json ->> '$.tp')::INTEGER AS tp, (v.detail_json ->> '$.fn')::INTEGER AS fn,
    (v.detail_json ->> '$.fp')::INTEGER AS fp, (v.detail_json ->> '$.tn')::INTEGER AS tn
  FROM measured m JOIN evaluations v ON v.artifact_id = m.owner_id
  WHERE v.task = 'all' AND regexp_matches(v.metric, '^real_(precision|recall|false_positive_rate)_at_[0-9.]+$')
)
SELECT *, tp / nullif(tp + fp, 0) AS precision, tp / nullif(tp + fn, 0) AS recall, fp / nullif(fp + tn, 0) AS false_positive_rate
FROM counted
WHERE threshold = coalesce($threshold::DOUBLE, threshold)
ORDER BY recipes, seed, iteration, threshold
