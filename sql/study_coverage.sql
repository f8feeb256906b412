-- From how many of the real starts that failed did imagined actions truly lead to success, in each arm of a study?
-- Parameters: study. True: the imagined actions played on the simulator (privileged information, used only to measure).
WITH runs AS (
  SELECT *, substr(experiment, length($study::VARCHAR) + 2) AS rest,
    regexp_extract(rest, '^(.+)-s([0-9]+)$', 1) AS recipe, TRY_CAST(regexp_extract(rest, '-s([0-9]+)$', 1) AS INTEGER) AS seed
  FROM artifacts
  WHERE is_current AND starts_with(experiment, $study::VARCHAR || '-') AND regexp_matches(experiment, '-s[0-9]+$')
    AND NOT EXISTS (  -- of a study 'a', not what belongs to a study 'a-b'
      SELECT 1 FROM artifacts s WHERE s.asset = 'study' AND length(s.experiment) > length($study::VARCHAR)
        AND starts_with(artifacts.experiment, s.experiment || '-'))
)
SELECT r.recipe, r.seed, r.iteration, v.task, v.trials, v.successes, v.value, v.low, v.high
FROM runs r JOIN evaluations v ON v.artifact_id = r.owner_id
WHERE r.asset = 'imagined_outcomes' AND v.metric = 'failed_starts_covered'
ORDER BY r.recipe, r.seed, r.iteration, v.task = 'all', v.task
