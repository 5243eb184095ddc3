"""Inputs: a spec that the user types becomes a source of items; an item is one image, rendered word or text."""
