"""A CLIP model whose layers can be read: towers, layers, the basis of the bilinear form, directions, weights."""
