"""Removes what the exporter noted of the Python that ran: paths of the machine, and megabytes of it."""

import onnx


def strip_metadata(proto: onnx.ModelProto) -> None:
    """Clears metadata and documentation strings of the model, the graph, its nodes, values and weights."""
    graph = proto.graph
    proto.producer_name, proto.producer_version, proto.doc_string = "evm-deploy", "", ""
    for holder in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del holder.metadata_props[:]
    for described in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        described.doc_string = ""
