"""The operators on NVIDIA GPUs: the kernel source, the plan of a launch, compilation, and launches from PyTorch."""
