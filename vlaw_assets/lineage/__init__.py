"""Which data produced which policy, and what did an episode reach: answers read from the ledger, as plain values.

`closure` backwards, `impact` forwards, `differences` between two closures, `staleness` of what is current, `replay` of
a closure, and two forms to hand on: `page` (HTML) and `provenance` (in-toto). How they are printed is in `cli/`.
"""
