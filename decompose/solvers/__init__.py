"""Solvers for sparse codes and factors. They take and return arrays, and solve many targets at once."""
