"""`Part`: something derived from a Store, and the command that makes it again."""

import shlex
from pathlib import Path
from typing import NamedTuple


class Part(NamedTuple):
    """A derived part of a Store: its folder there, and the command that makes it ({store} stands for the Store's path).

    >>> Part("layout/map", "atlas map {store}").made_with(min_dist=0.2, raw=True, seed=None).command
    'atlas map {store} --min-dist 0.2 --raw'
    """

    name: str
    command: str

    def made_with(self, **options: object) -> "Part":
        """The same part with options added to its command; True adds a flag, None and False add nothing."""
        return self._replace(command=" ".join([self.command, *map(shlex.quote, option_words(**options))]))


def option_words(**options: object) -> list[str]:
    """Options as the words of a command line; True is a flag, None and False give no word, a list gives several.

    >>> option_words(k=4, min_dist=0.2, factors=[2, 3], raw=True, seed=None)
    ['-k', '4', '--min-dist', '0.2', '--factors', '2', '3', '--raw']
    """
    words = []
    for name, value in options.items():
        if value is not None and value is not False:
            words.append(("-" if len(name) == 1 else "--") + name.replace("_", "-"))
            words += [] if value is True else [str(each) for each in (value if isinstance(value, list) else [value])]
    return words


def fill_command(command: str | None, store: Path) -> str:
    """The command with the path of a Store in it, as a shell runs it."""
    return (command or "run the command that made it").replace("{store}", shlex.quote(str(store)))
