"""The form without functions: what other tools make of it, and what is left in it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization.shape_inference import quant_pre_process

from evm_deploy import Bundle
from evm_deploy.graph import functions
from evm_deploy.graph.scan_results import find_scans
from evm_deploy.operators import OPERATORS, Operator
from evm_deploy.runtimes.onnxruntime import OnnxRunner

FOLDED = {"Constant", "ConstantOfShape", "Range", "Shape"}  # of nothing but sizes, which are fixed


def run(model: Path) -> np.ndarray:
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    with OnnxRunner(model, library=False) as runner:
        return runner.run(image)[0]


def test_what_is_constant_is_computed_at_export(exported: Callable[..., Bundle]) -> None:
    bundle = exported("micro", scan_form="inlined")
    graph = onnx.load(bundle.model_path).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert not kinds.keys() & FOLDED
    assert len(graph.node) <= 460
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    values = {name for node in graph.node for name in node.output}
    assert len(find_scans(values)) == 2
    assert {"model.layers.0.blocks.0.output", "model.layers.1.blocks.0.output"} <= values
    assert np.array_equal(run(bundle.model_path), run(exported("micro").model_path))


def test_onnxruntime_prepares_it_for_quantisation(exported: Callable[..., Bundle], tmp_path: Path) -> None:
    model = exported("micro", scan_form="inlined").model_path
    quant_pre_process(model, tmp_path / "prepared.onnx")
    assert np.array_equal(run(tmp_path / "prepared.onnx"), run(model))


@pytest.mark.parametrize("form", ["operator", "inlined"])
def test_the_reference_evaluator_of_onnx_runs_it(exported: Callable[..., Bundle], form: str) -> None:
    bundle = exported("micro", scan_form=form)
    sample = bundle.sample()
    (found,) = ReferenceEvaluator(str(bundle.model_path)).run(None, {"image": sample.input})
    assert np.abs(found - sample.outputs[0]).max() <= 1e-5


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=lambda operator: operator.name)
def test_bodies_are_in_the_spelling_that_every_tool_reads(operator: Operator) -> None:
    constants = []
    for node in functions.write_body(operator, 20).node:
        assert node.op_type != "Shape" or not node.attribute  # a part of a shape, which some tools give whole
        if node.op_type == "Constant" and not any(each.ref_attr_name for each in node.attribute):
            (value,) = node.attribute
            assert value.type == AttributeProto.TENSOR
            constants.append(value.SerializeToString())
    assert len(set(constants)) == len(constants)
