"""What is particular to TensorRT: its libraries, the building of an engine, what is in one, and our plugins."""
