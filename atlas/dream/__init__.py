"""Feature visualisation: images optimised to activate a neuron, a direction or a text."""
