"""EfficientVMamba (arXiv 2403.09977): configuration, network, names in checkpoints, exact folding."""
