"""Graph in, bigger graph out: reverse mode, batching."""
