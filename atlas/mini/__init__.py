"""The embedded CLIP: weights and config that ship with the package, and the recipe that made them."""
