"""Feature visualisation: pictures optimised so that a neuron, a direction or a text responds."""
