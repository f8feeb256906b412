"""The data side of the co-improvement loop: Dagster assets, the lake with its ledger, and the command line.

The models, worlds and learners live in `vlaw_models`, which knows nothing of storage or orchestration.
"""
