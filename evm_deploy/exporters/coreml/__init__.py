"""PyTorch to Core ML."""
