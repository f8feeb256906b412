-- What did imports notice of their recordings, and what was decided?
-- Parameters: dataset (default all), rule (default all), decision (default all).
-- One line per dataset, rule and decision, with an example; episode -1 is the dataset as a whole.
SELECT
  a.experiment AS dataset, f.rule, f.decision, count(*) AS findings,
  count(DISTINCT f.episode) FILTER (f.episode >= 0) AS episodes,
  min(f.episode) AS first_episode, arg_min(f.value, f.position) AS example
FROM artifacts a JOIN import_findings f ON f.artifact_id = a.owner_id
WHERE a.is_current AND a.asset = 'recorded_episodes'
  AND a.experiment = coalesce($dataset::VARCHAR, a.experiment)
  AND f.rule = coalesce($rule::VARCHAR, f.rule)
  AND f.decision = coalesce($decision::VARCHAR, f.decision)
GROUP BY ALL
ORDER BY dataset, findings DESC, f.rule, f.decision
