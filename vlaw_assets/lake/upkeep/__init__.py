"""Looking after a lake: verifying, collecting garbage, migrating, compacting, cloning."""
