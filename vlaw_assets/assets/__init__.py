"""The assets of the loop, one file per stage in pipeline order."""
