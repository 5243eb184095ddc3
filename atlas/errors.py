"""`Refused`, the only error that users should see, and `Misuse`, a request that is wrong in itself."""


class Refused(ValueError):  # noqa: N818 - the name states what happened: the request was refused
    """A request that cannot be met. The message is one line: what is wrong, where, and what to do about it."""


class Misuse(Refused):
    """A request that is wrong whatever the data are; a command line then ends with exit code 2."""
