"""PyTorch to Core AI."""
