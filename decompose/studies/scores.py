"""Rows of the scorecard: what was published, what was measured, what chance gives, and whether they are comparable."""

from atlas.formatting import Record

SAME_NETWORK = "the paper's network"
SAME_NAME = "a network of this name; not known whether the paper's"
ANOTHER_NETWORK = "another network"
NO_NETWORK = "published figures alone"
NOT_COMPARABLE = "not comparable"


def score_row(table: str, published: str, measured: str, by_chance: str, compared: str, on: str) -> Record:
    """One row. `on`: what was compared, or why nothing was."""
    return {
        "table": table,
        "published": published,
        "measured": measured,
        "by_chance": by_chance,
        "compared": compared,
        "on": on,
    }


def not_compared(table: str, published: str, why: str) -> Record:
    """A row that cannot be compared, and why."""
    return score_row(table, published, "", "", NOT_COMPARABLE, why)
