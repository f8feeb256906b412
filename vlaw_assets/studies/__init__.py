"""Running studies, several recipes with several seeds on one ledger: what the ledger has of one (record.py), what comes
next (order.py), and running it (running.py, partition.py). What a study is: `vlaw_assets/recipes/study.py`.
"""
