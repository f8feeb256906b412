"""The Dagster side: jobs, partitions, sensors, checks, code identity, and the mirror of the ledger in Dagster's
records."""
