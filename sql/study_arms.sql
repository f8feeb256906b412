-- What distinguishes the arms of a study: the settings that their artifacts were made with?
-- Parameters: study. From the recipe parts in the artifacts' identities at iteration 1; NULL: that stage had no such part.
-- Where nothing is imagined there is no world, no label and no threshold. Privileged: it uses the simulator where a robot
-- would have nothing, as a ceiling.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
made AS (
  SELECT r.recipe, r.asset, o.recipe_json AS settings
  FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.iteration = 1
),
arms AS (SELECT recipe, list(DISTINCT seed ORDER BY seed) AS seeds, max(iteration) AS iterations FROM runs GROUP BY recipe),
said AS (
  SELECT
    recipe,
    max((settings ->> '$.rollouts.episodes_per_task')::INTEGER) FILTER (WHERE asset = 'real_rollouts') AS rollouts_per_task,
    max(round_even((settings ->> '$.imagine.episodes_per_task')::INTEGER * coalesce((settings ->> '$.imagine.share')::DOUBLE, 1), 0)
      ::INTEGER) FILTER (WHERE asset = 'imagined_rollouts') AS imagined_per_task,
    max((settings ->> '$.imagine.tries_per_failure')::INTEGER) FILTER (WHERE asset = 'imagined_rollouts') AS tries_per_failure,
    max(settings ->> '$.imagine.starts') FILTER (WHERE asset = 'imagined_rollouts') AS starts,
    max(settings ->> '$.imagine.world') FILTER (WHERE asset = 'imagined_rollouts') AS world,
    max(settings ->> '$.score.labels') AS labels,
    max((settings ->> '$.score.alpha')::DOUBLE) FILTER (WHERE asset = 'training_set') AS alpha,
    max(coalesce(settings ->> '$.policy.learner', settings ->> '$.policy.update')) FILTER (WHERE asset = 'policy') AS policy_update,
    bool_or((settings ->> '$.policy.use_real')::BOOLEAN) FILTER (WHERE asset = 'policy') AS use_real,
    bool_or((settings ->> '$.world_model.use_rollouts')::BOOLEAN) FILTER (WHERE asset = 'world_model') AS use_rollouts,
    max((settings ->> '$.world_model.expert_per_task')::INTEGER) FILTER (WHERE asset = 'world_model') AS expert_per_task
  FROM made GROUP BY recipe
)
SELECT
  recipe, seeds, iterations, rollouts_per_task, imagined_per_task,
  if(imagined_per_task = 0, NULL, tries_per_failure) AS tries_per_failure,
  if(imagined_per_task = 0, NULL, starts) AS starts, if(imagined_per_task = 0, NULL, world) AS world,
  if(imagined_per_task = 0, NULL, labels) AS labels, if(imagined_per_task = 0, NULL, alpha) AS alpha,
  policy_update, use_real, use_rollouts, expert_per_task,
  coalesce(imagined_per_task > 0 AND (world = 'simulator' OR labels = 'simulator'), false) AS privileged
FROM arms LEFT JOIN said USING (recipe)
ORDER BY recipe
