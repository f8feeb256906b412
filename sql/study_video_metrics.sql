-- How true are the pictures of each world model of a study, per camera, on replays of held-out real episodes?
-- Parameters: study; camera (default all). Model 'start': the one that the iteration began with (of iteration 1: the
-- pretrained one), 'made': the one it made. Where there is no row over all tasks, the mean of the tasks' rows stands for it.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
named AS (
  SELECT
    r.recipe, r.seed, r.iteration, if(r.asset = 'world_model_metrics', 'made', 'start') AS model, v.*,
    CASE
      WHEN v.metric IN ('psnr', 'ssim') THEN v.metric
      WHEN starts_with(v.metric, 'lpips_') OR starts_with(v.metric, 'perceptual_') THEN 'lpips'
      WHEN starts_with(v.metric, 'fid_') OR starts_with(v.metric, 'frechet_') AND ends_with(v.metric, '_frames') THEN 'fid'
      WHEN starts_with(v.metric, 'fvd_') OR starts_with(v.metric, 'frechet_') AND ends_with(v.metric, '_clips') THEN 'fvd'
    END AS family
  FROM runs r JOIN evaluations v ON v.artifact_id = r.owner_id
  WHERE r.asset IN ('world_model_metrics', 'start_world_model_metrics') AND v.value IS NOT NULL AND coalesce(v.camera, '') <> ''
)
SELECT
  recipe, seed, iteration, model, family, metric, camera, coalesce(avg(value) FILTER (WHERE task = 'all'), avg(value ORDER BY task)) AS value,
  coalesce(max(trials) FILTER (WHERE task = 'all'), sum(trials)) AS trials,
  any_value(detail_json ->> '$.feature_net.name') AS feature_net, any_value(detail_json ->> '$.feature_net.digest') AS feature_digest,
  any_value(detail_json ->> '$.perceptual_net.name') AS perceptual_net,
  any_value(detail_json ->> '$.perceptual_net.digest') AS perceptual_digest
FROM named
WHERE family IS NOT NULL AND camera = coalesce($camera::VARCHAR, camera)
GROUP BY recipe, seed, iteration, model, family, metric, camera
ORDER BY recipe, seed, iteration, model DESC, camera, family
