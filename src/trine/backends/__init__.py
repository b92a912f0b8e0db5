"""Back ends: what turns a graph into a program. `reference` is NumPy, slow and obviously right."""
