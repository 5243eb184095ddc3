"""`Refused`, the only error that users should see."""


class Refused(ValueError):  # noqa: N818 - the name states what happened: the request was refused
    """A request that cannot be met. The message is one line: what is wrong, where, and what to do about it."""
