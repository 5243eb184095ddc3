"""CLIP models: embeddings and activations, layers, the basis of the bilinear form, directions, weights."""
