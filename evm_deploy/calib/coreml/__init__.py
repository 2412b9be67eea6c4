"""INT8 for Core ML programs."""
