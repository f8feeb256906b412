-- On which starts did a study train, tune and evaluate, and do these sets share any?
-- Parameters: study. Imagined episodes begin where real ones begin; replays are the validation clips. What all
-- experiments train on (partition '') is counted too. A start is a task and a seed.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
used AS (
  SELECT owner_id FROM runs
  UNION
  SELECT owner_id FROM artifacts WHERE is_current AND partition = '' AND EXISTS (SELECT 1 FROM runs)
),
seen AS (
  SELECT DISTINCT
    CASE WHEN e.purpose IN ('evaluation', 'validation') THEN e.purpose ELSE 'training' END AS used_for,
    e.purpose, e.task, e.seed
  FROM used JOIN episodes e ON e.artifact_id = used.owner_id
  WHERE e.purpose NOT IN ('imagined', 'replay')
  UNION  -- validation starts on which policies are stopped and promoted: outcomes only, no episodes are kept
  SELECT 'validation', 'stopping points', v.task, unnest(range(first_seed, first_seed + v.trials))
  FROM (SELECT *, (detail_json ->> '$.first_seed')::BIGINT AS first_seed FROM evaluations) v
  WHERE v.metric = 'validation_success' AND v.task <> 'all' AND first_seed IS NOT NULL
    AND v.artifact_id IN (SELECT owner_id FROM runs WHERE asset = 'policy')
)
SELECT
  used_for, purpose, count(DISTINCT task) AS tasks, count(*) AS starts, min(seed) AS first_seed, max(seed) AS last_seed,
  count(*) FILTER (WHERE used_for <> 'evaluation' AND (task, seed) IN (SELECT (task, seed) FROM seen WHERE used_for = 'evaluation'))
    AS shared_with_evaluation,
  count(*) FILTER (WHERE used_for = 'training' AND (task, seed) IN (SELECT (task, seed) FROM seen WHERE used_for = 'validation'))
    AS shared_with_validation
FROM seen
GROUP BY used_for, purpose
ORDER BY used_for, purpose
