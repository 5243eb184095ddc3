"""Pages about a Store, as fragments of its site: equations, components, directions, emotions."""

from decompose.pages.components import components_page
from decompose.pages.directions import directions_page
from decompose.pages.emotions import emotions_page
from decompose.pages.equations import equations_page
from decompose.pages.fragment import covers, write_fragment

__all__ = ["components_page", "covers", "directions_page", "emotions_page", "equations_page", "write_fragment"]
