"""The `.trine` file, weights, and atomic writes."""
