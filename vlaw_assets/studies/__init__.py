"""Running a study: what the ledger has of it (ledger.py), what comes next (order.py), doing it (running.py, worker.py).

Not here: what a study is (vlaw_assets/studies/definition.py), what is printed (cli/study.py), and what it shows
(study_report).
"""
