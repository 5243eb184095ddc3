"""The one error a user meets."""


class Refused(ValueError):  # noqa: N818 - it reads as what happened: the request was refused
    """A request that cannot be met. The message is one line: what, where, and what to do instead."""
