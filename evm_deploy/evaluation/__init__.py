"""Accuracy: runs bundles and PyTorch (the contenders) on the same images, in one process or on a cluster."""
