-- How true is the world model, per iteration: recorded actions replayed inside it, against what really happened?
-- Parameters: experiment (default all), metric (default all: psnr, ssim and how its judge was misled).
SELECT
  a.experiment, a.iteration, v.metric, v.task, v.camera, v.trials, v.value, v.low, v.high,
  v.value - lag(v.value) OVER (PARTITION BY a.experiment, v.metric, v.task, v.camera ORDER BY a.iteration) AS change
FROM artifacts a
JOIN evaluations v ON v.artifact_id = a.owner_id
WHERE a.is_current AND a.asset = 'world_model_metrics'
  AND a.experiment = coalesce($experiment::VARCHAR, a.experiment)
  AND v.metric = coalesce($metric::VARCHAR, v.metric)
ORDER BY a.experiment, v.metric, v.task, v.camera, a.iteration
