"""The former place of `atlas.analysis.significance`, kept for one release."""

from atlas.analysis.significance import *  # noqa: F403
