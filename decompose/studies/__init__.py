"""The paper's studies of a whole model, each a short recipe on arrays: attacks, conditional probabilities, concepts."""
