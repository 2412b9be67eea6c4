"""An onnxruntime session for a process of Java: reads a model, then inputs, on stdin; writes outputs on stdout."""

import os
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime


def read(source: BinaryIO, kind: str) -> Any:
    return struct.unpack(kind, source.read(struct.calcsize(kind)))[0]


def text(source: BinaryIO) -> str:
    return source.read(read(source, ">H")).decode()


def utf(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def main(library: str, folder: str) -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    options = onnxruntime.SessionOptions()
    if library:
        options.register_custom_ops_library(str(Path(folder, library)))
    session = onnxruntime.InferenceSession(source.read(read(source, ">i")), options, providers=["CPUExecutionProvider"])
    sink.write(utf(""))
    sink.flush()
    names = [output.name for output in session.get_outputs()]
    while header := source.read(2):
        name, kind = source.read(struct.unpack(">H", header)[0]).decode(), text(source)
        shape = [read(source, ">q") for _ in range(read(source, ">i"))]
        array = np.frombuffer(source.read(read(source, ">i")), kind).reshape(shape)
        sink.write(struct.pack(">i", len(names)))
        for output, value in zip(names, session.run(None, {name: array}), strict=True):
            data = np.ascontiguousarray(value).tobytes()
            sides = struct.pack(f">i{value.ndim}q", value.ndim, *value.shape)
            sink.write(utf(output) + utf(str(value.dtype)) + sides + struct.pack(">i", len(data)) + data)
        sink.flush()


if __name__ == "__main__":
    main(sys.argv[1], os.environ["EVM_LIBRARY_FOLDER"])
