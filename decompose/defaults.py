"""Defaults that several functions and commands share. Nothing is imported here, so that commands answer at once."""

FALSE_RATE = 0.05  # false discovery rate of labels and of other tables of tests
NULL_DRAWS = 10_000  # draws from every null distribution that has no closed form
MATCHED_CONTROLS = 64  # neurons that a receipt's neuron is ranked among
CONCEPT_TEMPLATES = "neutral"  # prompts of a concept that is compared with pictures and with words alike
PICTURE_TEMPLATES = "drawing"  # prompts of classes that pictures are sorted into
