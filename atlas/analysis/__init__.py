"""Parts derived from a Store: statistics, indexes, layouts, names of neurons; p-values, and queries."""
