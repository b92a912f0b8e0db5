"""The closed set of primitives, one object each, and the functions that record them."""
