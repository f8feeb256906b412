"""The one error type a person is meant to read."""

import copyreg
from typing import Any


class VlawError(Exception):
    """A problem the user can mend. The message says what, where and the remedy, in that order."""

    def __init__(self, what: str, *, where: str, remedy: str):
        super().__init__(f"{what}\n  where:  {where}\n  remedy: {remedy}")
        self.what, self.where, self.remedy = what, where, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it survives the way from another process: by default it would be made again from its text alone."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]
