"""Whether the ledger's rows are those that were sealed, at the price of looking at its files: each is hashed once
(verified.py).

`seal.check` holds the end of the chain against the seal, which is enough before a commit. Before numbers are shown,
every log entry that the seal covers is held against its link, and the links against each other. What names every file,
says what is unsealed and, on request, trusts no memory, is `verify.verify_ledger`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vlaw_assets.lake import seal
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake.paths import Paths
    from vlaw_assets.lake.verified import Verified


def check(paths: Paths, verified: Verified) -> None:
    """Raises VlawError if the seal is broken, or naming the first file of the ledger that is gone or was changed."""
    sealed = seal.check(paths)
    if sealed["version"] < 0:
        return
    try:
        with paths.chain.open("rb") as file:
            lines = file.read(sealed["length"]).splitlines()
        links = json.loads(b"[" + b",".join(lines) + b"]")  # all at once, in a third of the time
        if len(links) != len(lines):
            raise VlawError(
                "ledger.chain has lines that are not one link each", where=str(paths.chain), remedy=seal.REMEDY
            )
        chain = ""
        for number, item in enumerate(links):
            chain = seal.link(chain, item["log"], item["files"])
            if (item["version"], item["chain"]) != (number, chain):
                raise VlawError(
                    f"ledger.chain: line {number + 1} was changed", where=str(paths.chain), remedy=seal.REMEDY
                )
        if (len(links) - 1, chain) != (sealed["version"], sealed["chain"]):
            raise VlawError("ledger.chain does not fit ledger.seal", where=str(paths.chain), remedy=seal.REMEDY)
        files = [file for item in links for file in (item["log"], *item["files"])]
        found = verified.found(files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VlawError(
            f"ledger.chain is damaged ({type(error).__name__})", where=str(paths.chain), remedy=seal.REMEDY
        ) from error
    for path, problem in found.items():
        raise VlawError(f"the ledger: {problem}", where=str(paths.root / path), remedy=seal.REMEDY)
