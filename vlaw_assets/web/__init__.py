"""Serving Dagster's web UI: the server, and the guard in front of it."""
