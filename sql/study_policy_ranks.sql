-- Does imagination order policies as the robot does: each policy's success in the world model and in reality, per task?
-- Parameters: study; recipe (default 'vlaw': what others imagine may be the same episodes again); alpha (of the judge;
-- default: the iteration's own, else 0.8). Per seed, since every seed has a world model and a judge of its own. Only
-- imagined episodes in a learned world model; real trials are evaluations at the reported noise. Policies are named by
-- the iteration that made them. Episodes in quarantine are left out.
WITH runs AS (
  SELECT * FROM study_artifacts
  WHERE study = $study::VARCHAR AND is_current AND recipe = coalesce($recipe::VARCHAR, 'vlaw')
),
imagined AS (
  SELECT seed, policy, task, count(*) AS trials, count(*) FILTER (WHERE p_success > coalesce($alpha::DOUBLE, alpha, 0.8)) AS successes
  FROM (
    SELECT DISTINCT r.seed, e.artifact_id, e.episode_id, e.policy, e.task, s.p_success, t.alpha
    FROM runs r
    JOIN reward_scores s ON s.artifact_id = r.owner_id
    JOIN episodes e ON e.artifact_id = s.owner AND e.episode_id = s.episode_id
    LEFT JOIN thresholds t ON t.experiment = r.experiment AND t.iteration = r.iteration
    WHERE r.asset = 'reward_scores' AND s.judge <> 'simulator' AND e.purpose = 'imagined' AND NOT e.quarantined AND e.world = 'world_model'
  )
  GROUP BY seed, policy, task
),
tried AS (
  SELECT seed, policy, task, count(*) AS trials, count(*) FILTER (WHERE success) AS successes
  FROM (
    SELECT DISTINCT r.seed, e.artifact_id, e.episode_id, e.policy, e.task, e.success
    FROM runs r JOIN episodes e ON e.artifact_id = r.owner_id
    WHERE r.asset IN ('start_evaluation', 'policy_evaluation') AND e.success IS NOT NULL AND NOT e.quarantined
  )
  GROUP BY seed, policy, task
),
made AS (
  SELECT seed, content_digest AS policy, arg_min(recipe || ' ' || iteration, sequence) AS name
  FROM runs WHERE asset = 'policy' GROUP BY seed, content_digest
)
SELECT
  coalesce(made.name, 'base') || ', seed ' || seed AS name, seed, policy, task,
  i.trials AS imagined_trials, i.successes AS imagined_successes,
  t.trials AS real_trials, t.successes AS real_successes,
  i.successes / i.trials AS imagined_rate, t.successes / t.trials AS real_rate
FROM imagined i JOIN tried t USING (seed, policy, task) LEFT JOIN made USING (seed, policy)
ORDER BY seed, made.name IS NOT NULL, name, task
