"""The inbox: recordings that a lab made with a served policy come back into the loop.

A recording is a folder `<inbox>/<name>/`: a dataset of any importer's format and, written last, `recording.toml`, which
says that it is finished, how to read it, and which session of `vlaw serve-policy` its policy was served by. A folder
without that file is still being written. The inbox is VLAW_INBOX, or `inbox/` in the lake's folder.

`take_in` (take.py) is the one way in; `vlaw inbox` and the Dagster job `inbox` call it, one at a time (a lock of the
lake). Of each finished recording, in this order:

1. judged (recording.py, assignment.py): the session is this lake's, its policy is in the ledger and is the one that an
   iteration of the session's experiment starts from. That iteration is the recording's: the open one, which has no
   `real_rollouts` yet, or an earlier one for which it comes late.
2. committed as `recorded_episodes` of a partition of its own, with an edge to the policy, and only if no file changed
   while it was read and no episode is known already. A recording is known by the digest of the bytes it consists of: a
   kill between any two steps, or the same recording under another name, commits nothing twice.
3. moved to `<inbox>/taken/`. What lies outside of that folder is not known to be in the lake.

What is wrong with a recording moves it to `<inbox>/refused/`, with the reason in `reason.txt` and in the table
`refused_recordings`. What is wrong with anything else (a full disk, a lock that is held) leaves it for the next time.

`real_rollouts` of a recipe with `[rollouts] source = "inbox"` copies what was committed for its iteration
(assets/recordings.py). The sensor (sensor.py) asks for the job where something is finished, and says when an iteration
has its episodes, or asks for it (`[rollouts] start`).
"""
