"""TensorRT: its libraries, building and inspecting engines, and our plugins."""
