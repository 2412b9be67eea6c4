"""The two operators on NVIDIA GPUs: the kernel source, the plan of a launch, compilation, the launch from PyTorch."""
