-- Does imagination order policies as the robot does: each policy's success in the world model and in reality, per task?
-- Parameters: study; alpha (of the judge; default 0.8). Only imagined episodes in a learned world model that has seen
-- rollouts; real trials are evaluations at the reported noise. Policies are named by their first artifact in the study.
WITH runs AS (SELECT * FROM study_artifacts WHERE study = $study::VARCHAR AND is_current),
worlds AS (  -- an expert-only world model is a baseline, not the method
  SELECT DISTINCT r.content_digest AS world_model
  FROM runs r JOIN artifacts o ON o.artifact_id = r.owner_id
  WHERE r.asset = 'world_model' AND NOT coalesce((o.recipe_json ->> '$.world_model.use_rollouts')::BOOLEAN, true)
),
imagined AS (
  SELECT policy, task, count(*) AS trials, count(*) FILTER (WHERE p_success > coalesce($alpha::DOUBLE, 0.8)) AS successes
  FROM (
    SELECT DISTINCT e.artifact_id, e.episode_id, e.policy, e.task, s.p_success
    FROM runs r
    JOIN reward_scores s ON s.artifact_id = r.owner_id
    JOIN episodes e ON e.artifact_id = s.owner AND e.episode_id = s.episode_id
    WHERE r.asset = 'reward_scores' AND s.judge <> 'simulator' AND e.purpose = 'imagined' AND e.world = 'world_model'
      AND coalesce(e.world_model, '') NOT IN (SELECT world_model FROM worlds)
  )
  GROUP BY policy, task
),
tried AS (
  SELECT policy, task, count(*) AS trials, count(*) FILTER (WHERE success) AS successes
  FROM (
    SELECT DISTINCT e.artifact_id, e.episode_id, e.policy, e.task, e.success
    FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
    WHERE r.asset IN ('start_evaluation', 'policy_evaluation') AND e.success IS NOT NULL
  )
  GROUP BY policy, task
),
made AS (
  SELECT content_digest AS policy, arg_min(recipe || ' ' || iteration || ', seed ' || seed, sequence) AS name
  FROM runs WHERE asset = 'policy' GROUP BY content_digest
)
SELECT
  coalesce(made.name, 'base') AS name, policy, task, i.trials AS imagined_trials, i.successes AS imagined_successes,
  t.trials AS real_trials, t.successes AS real_successes,
  i.successes / i.trials AS imagined_rate, t.successes / t.trials AS real_rate
FROM imagined i JOIN tried t USING (policy, task) LEFT JOIN made USING (policy)
ORDER BY name, task
