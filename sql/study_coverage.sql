-- From how many of the real starts that failed did imagined actions truly lead to success, in each arm of a study?
-- Parameters: study. True: the imagined actions played on the simulator (privileged information, used only to measure).
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current)
SELECT r.recipe, r.seed, r.iteration, v.task, v.trials, v.successes, v.value, v.low, v.high
FROM runs r JOIN evaluations v ON v.artifact_id = r.owner_id
WHERE r.asset = 'imagined_outcomes' AND v.metric = 'failed_starts_covered'
ORDER BY r.recipe, r.seed, r.iteration, v.task = 'all', v.task
