"""Studies: several recipes with several seeds on one ledger. What one is (definition.py, *.toml), what the ledger has
of it (record.py), what comes next (order.py), and running it (running.py, partition.py).
"""
