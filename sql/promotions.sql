-- Which policies and world models were promoted, which were refused, and on what evidence?
-- Parameters: experiment (default all), model ('policy' or 'world_model'; default both).
-- Iteration is the one that the verdict let the model into; `candidate` was made in the iteration before. `measured` is false
-- where there was no evidence: then a model is promoted. Policies: value is new - old on validation starts, low its lower
-- bound; world models: value is the false-positive rate on replayed failures, low and high its 95 % interval.
WITH decided AS (
  SELECT
    a.experiment, a.iteration, a.sequence, a.owner_id, m.model, o.metrics_json -> ('$.promotion.' || m.model) AS verdict
  FROM artifacts a
  JOIN artifacts o ON o.artifact_id = a.owner_id,
    (VALUES ('policy'), ('world_model')) AS m(model)
  WHERE a.is_current AND a.asset = 'loop_state'
    AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
    AND m.model = coalesce($model::VARCHAR, m.model)
)
SELECT
  d.experiment, d.iteration, d.model, (d.verdict ->> '$.promoted')::BOOLEAN AS promoted,
  (d.verdict ->> '$.measured')::BOOLEAN AS measured,
  coalesce(d.verdict ->> '$.numbers.difference', d.verdict ->> '$.numbers.value')::DOUBLE AS value,
  coalesce(d.verdict ->> '$.numbers.lower_bound', d.verdict ->> '$.numbers.low')::DOUBLE AS low,
  (d.verdict ->> '$.numbers.high')::DOUBLE AS high,
  coalesce(d.verdict ->> '$.numbers.starts', d.verdict ->> '$.numbers.negatives')::INTEGER AS trials,
  d.verdict ->> '$.reason' AS reason, new.content_digest AS candidate, kept.content_digest AS passed_on
FROM decided d
LEFT JOIN edges j ON j.child_id = d.owner_id AND j.role = 'judged_' || d.model
LEFT JOIN artifacts new ON new.artifact_id = j.parent_id
LEFT JOIN edges k ON k.child_id = d.owner_id AND k.role = d.model
LEFT JOIN artifacts kept ON kept.artifact_id = k.parent_id
WHERE d.verdict IS NOT NULL
ORDER BY d.sequence, d.model
