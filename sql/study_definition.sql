-- What is this study: which definition was it begun with, and when?
-- Parameters: study. A later definition under the same name is refused, or starts again; the last one is current.
SELECT artifact_id, content_digest, created_at, code_revision, recipe_json AS definition, is_current
FROM artifacts
WHERE asset = 'study' AND (partition = $study::VARCHAR OR experiment = $study::VARCHAR)
ORDER BY sequence
