"""What a direction, a word or a neuron of a CLIP model is made of."""

__version__ = "0.1.0"
