"""Reads the layers of a network or an engine, with the types of their inputs and outputs."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TYPES = {  # names of the library, of its inspector and of its build report
    "float": "float32",
    "fp32": "float32",
    "half": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8": "float8",
    "fp4": "float4",
}


@dataclass(frozen=True)
class EngineLayer:
    """One layer. `nodes` names the ONNX nodes that it came from, each with the functions that called it.

    weights: the types of its constants that are matrices, as far as what was read says them.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]
    weights: tuple[str, ...] = ()


def read_network(network: Any) -> tuple[EngineLayer, ...]:
    """The layers of a parsed network, before the builder fuses them."""
    found = []
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        inputs = (layer.get_input(i) for i in range(layer.num_inputs))
        outputs = (layer.get_output(i) for i in range(layer.num_outputs))
        types = [
            tuple(_normalise_type(tensor.dtype.name) for tensor in side if tensor is not None)
            for side in (inputs, outputs)
        ]
        found.append(EngineLayer(layer.name, layer.type.name, types[0], types[1], _find_nodes(layer.metadata)))
    return tuple(found)


def read_engine(engine: Any, trt: Any) -> tuple[EngineLayer, ...]:
    """The layers of an engine, read with its inspector. Loading an engine needs a GPU."""
    return read_inspection(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def read_inspection(text: str) -> tuple[EngineLayer, ...]:
    """The layers in the JSON of an EngineInspector, for an engine built with detailed profiling."""
    found = []
    for row in json.loads(text)["Layers"]:
        sides = [tuple(_read_type(tensor) for tensor in row.get(side, ())) for side in ("Inputs", "Outputs")]
        found.append(
            EngineLayer(row["Name"], row["LayerType"], sides[0], sides[1], _find_nodes(row.get("Metadata", "")))
        )
    return tuple(found)


def read_report(lines: Iterable[str]) -> tuple[EngineLayer, ...]:
    """The layers in the lines that a builder logs for an engine, which needs no GPU."""
    pattern = re.compile(
        r"Name: (.*?), LayerType: (\w+), Inputs: \[(.*?)\], Constants: (.*?)Outputs: \[(.*)\], TacticName"
    )
    found = []
    for line in lines:
        if match := pattern.match(line):
            sides = [tuple(map(_normalise_type, re.findall(r"Datatype: (\w+)", match[side]))) for side in (3, 5)]
            nodes, weights = _find_nodes(line), _find_matrices(match[4])
            found.append(EngineLayer(match[1], match[2], sides[0], sides[1], nodes, weights))
    return tuple(found)


def _find_matrices(constants: str) -> tuple[str, ...]:
    """The types of the constants with more than one row and column."""
    described = re.findall(r"Dimensions: \[([\d,]*)\][^}]*?Datatype: (\w+)", constants)
    matrices = [kind for sides, kind in described if sum(side != "1" for side in sides.split(",")) > 1]
    return tuple(map(_normalise_type, matrices))


def count_layers(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """How many layers there are of each kind and type: `CONVOLUTION float16`; on integers, `gemm int8->float32`."""
    return dict(sorted(Counter(map(_describe, layers)).items()))


def _describe(layer: EngineLayer) -> str:
    """The kind and output types of a layer; also its input types if one is int8: the outputs are mostly float."""
    types = ["/".join(sorted(set(side))) for side in (layer.inputs, layer.outputs)]
    given = "->".join(types) if "int8" in layer.inputs else types[1]
    return f"{layer.kind} {given}".strip()


def _read_type(tensor: dict[str, Any]) -> str:
    """The type in `Datatype: Half`, or in the older `Format/Datatype: Row major linear FP16 format`."""
    words = str(tensor.get("Datatype") or tensor.get("Format/Datatype", "")).split()
    known = [TYPES[word.lower()] for word in words if word.lower() in TYPES]
    return known[0] if known else " ".join(words).lower()


def _normalise_type(name: str) -> str:
    return TYPES.get(name.lower(), name.lower())


def _find_nodes(metadata: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", metadata or ""))
