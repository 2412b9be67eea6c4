"""INT8 for ONNX graphs: what can become integers in a graph, and the graph with integers in it."""
