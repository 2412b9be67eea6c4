"""Runs a bundle's golden pair with onnxruntime and NumPy alone, as an app would: run_golden_pair.py BUNDLE [LIBRARY].

`make test-oldest` calls it with the oldest onnxruntime that is supported, which has no place in the environment of the
other tests.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

ALLOWED = 1e-4


def main(bundle: Path, *library: str) -> None:
    """Without the library, and with it where one is named."""
    image, expected = (np.load(bundle / "sample" / f"{name}.npy") for name in ("input", "output"))
    for loaded in ((), library) if library else ((),):
        options = onnxruntime.SessionOptions()
        for path in loaded:
            options.register_custom_ops_library(path)
        session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: image})
        error = float(np.abs(found - expected).max())
        print(f"onnxruntime {onnxruntime.__version__}, {'with' if loaded else 'without'} the library: {error:.1e}")
        if not error <= ALLOWED:
            raise SystemExit(f"more than {ALLOWED} off")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
