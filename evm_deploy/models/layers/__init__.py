"""Layers that several families have, with the parameter names of their checkpoints."""
