"""Models, worlds and learners of the co-improvement loop: torch, MuJoCo and numpy.

Nothing here knows about storage or orchestration: functions take arrays and folders and give arrays and folders.
`vlaw_assets` is the only caller that persists anything.
"""
