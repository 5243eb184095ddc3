"""Static pages of an atlas: opened by double-click, no server, no network."""

from atlas.pages.given import write_points
from atlas.pages.site import write_site

__all__ = ["write_points", "write_site"]
