"""Inputs: what one types becomes a source of items; each item is one picture, rendered word or text, read lazily."""
