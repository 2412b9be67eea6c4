"""What an operator is: one frozen row that everything else asks. Importing it imports no library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from evm_deploy.cuda.plan import LaunchPlan

DOMAIN, VERSION = "evm", 1  # of the operators in an ONNX graph

# Kinds of operators, for people who ask where the time goes.
SCAN, CONVOLUTION, NORM, ACTIVATION = "scan", "convolution", "norm", "activation"

# Types of inputs. A letter is the same type for all inputs of a node that have it, and for y.
ROWS = "T"  # what the graph computes in
STATE = "tensor(float)"  # float32 in every precision: parameters of the recurrence
INDICES = "tensor(int64)"  # places of tokens
ENTRIES = "E"  # what a table holds
CHOICES = {
    ROWS: (("tensor(float)", "tensor(float16)"), "what the graph computes in"),
    ENTRIES: (("tensor(float)", "tensor(uint8)"), "what the table holds"),
}

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]  # of the inputs, by name


@dataclass(frozen=True)
class ProductWeight:
    """An input that is the weight of a product, and what quantisation may do with it.

    in_axis, out_axis: its input and output channels; the input channels of x are its last axis.
    scale_axes: one scale of integers for each index along these.
    integer: whether the operator multiplies integers with it.
    every_group: whether each token of y has a product of every group; else each has one of its own group.
    second: the weight (K, R, D) of another product of the operator, which is always of floats.
    quantised: the operator that takes this weight as integers. Its inputs are x, scale and zero point of x, the
        weight, its scales, and then all other inputs of this operator.
    """

    input: str
    in_axis: int
    out_axis: int
    scale_axes: tuple[int, ...]
    second: str
    integer: bool = False
    every_group: bool = False
    quantised: Operator | None = None


Side = tuple[str, int]  # an axis of an input, by the input's name


@dataclass(frozen=True)
class GpuKernel:
    """The CUDA kernel of an operator, which TensorRT has as a plugin.

    plan: its launch. Of the shapes of the inputs, "float32" or "float16", the multiprocessors of the GPU, and the
        attributes by their names. The grid is proportional to the first side of the first input.
    sizes: what is among the kernel's arguments.
    result: the shape of y.
    """

    plan: Callable[..., LaunchPlan]
    sizes: tuple[Side, ...]
    result: tuple[Side, ...]


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator of the domain `evm`; y is its one output.

    inputs: their names and types, in order; the first is x or u, whose type and place y has.
    result: the type of y, where it is another.
    attributes: their names and types, int or float; every node has them.
    write_body: adds the nodes of the ONNX body to a `Body`; its keywords are the attributes in `specialised`.
    calls: the operators whose nodes are in the body.
    specialised: the attributes that a body is written for. All nodes of a model have the same values of them.
    count_tokens: of the shapes of the inputs, and the attributes by name: the length of a sequence that it scans.
    fit_body: the keywords of `write_body` for sequences of at most so many tokens.
    torch_op: gives the overload of the torch operator that is exported as this one.
    translate: of onnxscript's `op` and `evm`, the function that `torch.onnx` writes the node with.
    static_form: for compilers that have no operators of others: the torch operator in standard operations of fixed
        shapes, with the same arguments, and `dtype`, what it computes in. float16 may halve the inputs of type ROWS.
    skip: the input whose product with the first passes by the recurrence.
    flops, integer_ops: of one run, by the shapes of the inputs; integer_ops are among the flops.
    weight: the weight of its product, where it has one.
    affine: the inputs that y scales with, channel by channel: dividing them divides y.
    library: whether the library for onnxruntime has a kernel.
    page: whether the page's module has it, and a graph is cut there (`graph/cut.py`). y is float32.
    gpu: its CUDA kernel, where it has one.
    """

    name: str
    kind: str
    inputs: Mapping[str, str]
    write_body: Callable[..., None]
    flops: Callable[[Shapes], int]
    version: int = 1
    attributes: Mapping[str, type[int] | type[float]] = field(default_factory=dict)
    calls: tuple[Operator, ...] = ()
    specialised: tuple[str, ...] = ()
    count_tokens: Callable[..., int] | None = None
    fit_body: Callable[[int], Mapping[str, Any]] | None = None
    torch_op: Callable[[], Any] | None = None
    translate: Callable[[Any, Any], Callable[..., Any]] | None = None
    static_form: Callable[..., Tensor] | None = None
    skip: str | None = None
    integer_ops: Callable[[Shapes], int] | None = None
    weight: ProductWeight | None = None
    affine: tuple[str, ...] = ()
    library: bool = True
    page: bool = False
    gpu: GpuKernel | None = None
    result: str | None = None

    def place(self, name: str) -> int:
        """The place of an input."""
        return list(self.inputs).index(name)

    def places(self, type: str) -> tuple[int, ...]:
        """The places of the inputs of this type."""
        return tuple(i for i, each in enumerate(self.inputs.values()) if each == type)
