"""What episodes reached, in SQL: the table macro `reached_by(ids, holder)` behind sql/impact.sql and
sql/quarantined.sql.

The rule is that of vlaw_assets/lineage/impact.py, which says it in words; a test holds the two against each other. One
row per episode asked about (origin) and row reached: artifact_id, owner and episode_id of the row; without an episode
the artifact is reached as a whole, by what it read in `role`. `holder`: only the episodes that this artifact holds;
NULL for all.
"""

from __future__ import annotations

from vlaw_assets.loop_roles import MODELS, deciding_roles

_DECIDES = ", ".join(f"('{role}', '{model}')" for role, model in deciding_roles().items())
_MODELS = ", ".join(f"'{model}'" for model in MODELS)

REACHED_BY = f"""
CREATE MACRO reached_by(ids, holder) AS TABLE
WITH RECURSIVE
named AS (  -- which row names which episode; an id names an episode only together with the artifact that owns it
  SELECT artifact_id, episode_id AS names, owner, owner AS row_owner, episode_id AS row_id FROM members
  UNION ALL
  SELECT artifact_id, episode_id, owner, owner, episode_id FROM reward_scores
  UNION ALL
  SELECT artifact_id, start_episode_id, NULL, artifact_id, episode_id FROM episodes WHERE start_episode_id IS NOT NULL
  UNION ALL
  SELECT e.child_id, p.episode_id, e.parent_id, e.parent_id, p.episode_id
  FROM edges e JOIN embedders v ON v.artifact_id = e.child_id
  JOIN episodes p ON p.artifact_id = e.parent_id WHERE e.scope = 'rows'
),
picked AS (  -- episodes that were read where not all of them were
  SELECT g.child_id, g.parent_id, g.role, m.owner, m.episode_id
  FROM edges g JOIN members m ON m.artifact_id = g.selection_id AND m.weight > 0
  WHERE g.selection = 'members'
  UNION ALL
  SELECT r.artifact_id, r.parent_id, g.role, r.parent_id, r.episode_id
  FROM reads r JOIN edges g ON g.child_id = r.artifact_id AND g.parent_id = r.parent_id AND g.selection = 'listed'
),
left_out(child_id, episode_id) AS (  -- in quarantine when the child was made, with what was imagined from them
  SELECT g.child_id, q.episode_id FROM edges g JOIN quarantine q ON q.artifact_id = g.parent_id
  WHERE g.role = 'quarantine'
  UNION
  SELECT l.child_id, e.episode_id FROM left_out l JOIN episodes e ON e.start_episode_id = l.episode_id
),
apart AS (  -- pointers that do not stand as their owner does: they are reached by edges of their own
  SELECT DISTINCT e.child_id, a.owner_id FROM edges e JOIN artifacts a ON a.artifact_id = e.child_id
  WHERE a.source_artifact_id <> ''
),
ways AS (
  SELECT g.*, c.owner_id AS holder, coalesce(o.child_id, g.parent_id) AS from_id
  FROM edges g JOIN artifacts c ON c.artifact_id = g.child_id LEFT JOIN apart o ON o.child_id = g.read_as
),
decided AS (  -- (child, its state, role): what the state read in this role was for a model that the child took
  SELECT DISTINCT s.child_id, s.parent_id AS state, d.role
  FROM edges s
  JOIN edges m ON m.child_id = s.parent_id AND m.role IN ({_MODELS})
  JOIN edges t ON t.child_id = s.child_id AND t.parent_id = m.parent_id AND t.role <> 'state'
  JOIN (VALUES {_DECIDES}) d(role, model) ON d.model = m.role
  WHERE s.role = 'state'
),
reached(origin, artifact_id, owner, episode_id, role) AS (
  -- a policy learned from what it holds
  SELECT e.episode_id, coalesce(o.child_id, e.artifact_id), if(h.kind = 'policy', NULL, e.artifact_id),
    if(h.kind = 'policy', NULL, e.episode_id), ''
  FROM episodes e JOIN artifacts h ON h.artifact_id = e.artifact_id
  LEFT JOIN (SELECT child_id, owner_id FROM apart UNION ALL SELECT NULL, artifact_id FROM artifacts) o
    ON o.owner_id = e.artifact_id
  WHERE list_contains(ids, e.episode_id) AND e.artifact_id = coalesce(holder, e.artifact_id)
  UNION
  SELECT r.origin, g.child_id, coalesce(n.row_owner, if(n.row_id IS NULL, NULL, r.owner)), n.row_id,
    if(n.row_id IS NULL, g.role, '')
  FROM reached r
  JOIN ways g ON g.from_id = r.artifact_id
  LEFT JOIN named n
    ON g.scope = 'rows' AND n.artifact_id = g.holder AND n.names = r.episode_id
    AND coalesce(n.owner, r.owner) = r.owner
  LEFT JOIN picked p
    ON p.child_id = g.holder AND p.parent_id = g.parent_id AND p.role = g.role
    AND p.episode_id = r.episode_id AND p.owner = r.owner
  LEFT JOIN left_out x ON x.child_id = g.holder AND x.episode_id = r.episode_id
  LEFT JOIN decided z ON z.child_id = g.child_id AND z.state = g.parent_id AND z.role = r.role
  WHERE CASE
    WHEN g.role = 'state' THEN r.episode_id IS NULL AND z.role IS NOT NULL
    WHEN r.episode_id IS NULL THEN true
    ELSE x.episode_id IS NULL
      AND (n.row_id IS NOT NULL OR g.scope = 'whole' AND (g.selection = 'all' OR p.episode_id IS NOT NULL))
  END
)
SELECT r.origin, a.artifact_id, r.owner, r.episode_id, r.role
FROM reached r JOIN artifacts a ON a.owner_id = r.artifact_id
  AND NOT EXISTS (FROM apart o WHERE o.child_id = a.artifact_id)
UNION
SELECT r.origin, r.artifact_id, r.owner, r.episode_id, r.role FROM reached r JOIN apart o ON o.child_id = r.artifact_id
"""
