"""What users hold: tensors, and the transforms, captures and graphs over them."""
