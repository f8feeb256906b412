-- How good is the judge at each threshold, on real clips whose outcome the robot's world knows?
-- Parameters: experiment, iteration, task (default all of each), step (of the threshold; default 0.05).
-- Clips in quarantine are left out, and counted so.
WITH scored AS (
  SELECT DISTINCT a.experiment, a.iteration, s.judge, e.artifact_id, e.episode_id, e.success, e.quarantined, s.p_success
  FROM artifacts a
  JOIN reward_scores s ON s.artifact_id = a.owner_id
  JOIN episodes e ON e.episode_id = s.episode_id
  WHERE a.is_current AND e.success IS NOT NULL AND e.label_source = 'world'
    AND (e.artifact_id = s.owner
      OR s.owner IS NULL AND (s.artifact_id, e.artifact_id) IN (SELECT (child_id, parent_id) FROM edges))
    AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
    AND a.iteration = coalesce($iteration::INTEGER, a.iteration)
    AND e.task = coalesce($task::VARCHAR, e.task)
),
thresholds AS (
  SELECT round(i * coalesce($step::DOUBLE, 0.05), 6) AS threshold  -- 0.8, and not the double beside it
  FROM range(0, round(1 / coalesce($step::DOUBLE, 0.05))::BIGINT + 1) AS t(i)
),
counted AS (
  SELECT
    experiment, iteration, judge, threshold, count(*) FILTER (WHERE NOT quarantined) AS clips,
    count(*) FILTER (WHERE p_success > threshold AND success AND NOT quarantined) AS true_positives,
    count(*) FILTER (WHERE p_success > threshold AND NOT success AND NOT quarantined) AS false_positives,
    count(*) FILTER (WHERE p_success <= threshold AND success AND NOT quarantined) AS false_negatives,
    count(*) FILTER (WHERE p_success <= threshold AND NOT success AND NOT quarantined) AS true_negatives,
    count(*) FILTER (WHERE quarantined) AS left_out
  FROM scored, thresholds
  GROUP BY ALL
)
SELECT
  *,  -- a rate without a denominator is NULL
  true_positives / nullif(true_positives + false_positives, 0) AS precision,
  true_positives / nullif(true_positives + false_negatives, 0) AS recall,
  false_positives / nullif(false_positives + true_negatives, 0) AS false_positive_rate
FROM counted
ORDER BY experiment, iteration, judge, threshold
