"""Which data produced which policy, and what did an episode reach: answers read from the ledger, as plain values.

`closure` backwards, `impact` forwards, `differences` between two closures, and `provenance` (in-toto) to hand on. How
they are printed is in `cli/`.
"""
