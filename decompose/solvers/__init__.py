"""What solves for codes and factors: arrays in, arrays out, many targets side by side."""
