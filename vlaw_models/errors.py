"""The one error type a person is meant to read."""


class VlawError(Exception):
    """A problem the user can mend. The message says what, where and the remedy, in that order."""

    def __init__(self, what: str, *, where: str, remedy: str):
        super().__init__(f"{what}\n  where:  {where}\n  remedy: {remedy}")
        self.what, self.where, self.remedy = what, where, remedy
