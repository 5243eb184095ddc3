"""Everything derived from a Store: statistics, indexes, layouts, names, p-values, and queries on them."""
