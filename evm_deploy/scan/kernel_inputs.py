"""The inputs of the operators on tokens in given orders, and all that there are kernels for."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.cuda.conv_plan import plan_causal_conv
from evm_deploy.cuda.plan import LaunchPlan, plan_grouped_scan
from evm_deploy.scan.inputs import Scan, Scan2DInputs, ScanInputs, Shapes


class OrderedScanInputs(NamedTuple):
    """Those of the selective scan of tokens in any order: K groups scan L of the T tokens each, by themselves.

    y is (B, T', D), in the type of x: token t of it is the sum of M results, whose numbers among all K*L of them are
    back[:, t]. A result is in one sum at most.
    """

    x: Tensor  # (B, T, D)
    x_proj: Tensor  # (K, D, R+2N), columns dt | B | C
    dt_proj: Tensor  # (K, R, D)
    dt_bias: Tensor  # (K, D)
    A: Tensor  # (K, N, D)
    D: Tensor  # (K, D)
    order: Tensor  # (K, L), int64: the tokens that each group scans, one after the other
    back: Tensor  # (M, T'), int64

    @property
    def kernel(self) -> str:
        """The name of the kernels."""
        return "evm_ordered_scan"

    @property
    def states(self) -> tuple[str, ...]:
        """What is float32 in every precision."""
        return ("dt_bias", "A", "D")

    @property
    def result_shape(self) -> tuple[int, ...]:
        """That of y."""
        return self.x.shape[0], self.back.shape[1], self.x.shape[2]

    @property
    def groups(self) -> GroupedScanInputs:
        """Those of the scans alone, whose results are not added up."""
        return GroupedScanInputs(*self[:-1])

    def lengthen(self, length: int) -> OrderedScanInputs:
        """The same with `length` tokens in each group: its first token once more after its last, which no sum uses."""
        (K, L), more = self.order.shape, length - self.order.shape[1]
        if not more:
            return self
        order = torch.cat([self.order, self.order[:, :1].expand(K, more)], 1)
        numbers = torch.arange(K * length, device=order.device).view(K, length)[:, :L].flatten()
        return self._replace(order=order, back=numbers.index_select(0, self.back.flatten()).view(self.back.shape))

    def through(self, scan: Scan) -> Tensor:
        """y by this form of the selective scan."""
        return self.add_up(self.groups.through(scan))

    def add_up(self, y: Tensor) -> Tensor:
        """The sums (B, T', D) of the results (B, K, L, D)."""
        results = y.flatten(1, 2).index_select(1, self.back.flatten())
        summed: Tensor = results.unflatten(1, self.back.shape).sum(1)
        return summed

    def shapes(self) -> Shapes:
        """Those that the tensors must have. Raises ValueError for another rank of what the others are measured by."""
        ranks = {"x": 3, "dt_proj": 3, "A": 3, "order": 2, "back": 2}
        wrong = [
            f"{name} {tuple(getattr(self, name).shape)}" for name in ranks if getattr(self, name).dim() != ranks[name]
        ]
        if wrong:
            raise ValueError(
                f"wrong shapes: {', '.join(wrong)}; expected x (B, T, D), dt_proj (K, R, D), A (K, N, D), "
                "order (K, L) and back (M, T')"
            )
        D, K, R, N = self.x.shape[2], self.order.shape[0], self.dt_proj.shape[1], self.A.shape[1]
        given = (tuple(self.x.shape), (K, D, R + 2 * N), (K, R, D), (K, D), (K, N, D), (K, D))
        orders = (tuple(self.order.shape), tuple(self.back.shape))
        return dict(zip(self._fields, given + orders, strict=True))

    def sizes(self) -> dict[str, int]:
        """As native/c_api.h has them."""
        names = ("batch", "tokens", "groups", "length", "channels", "states", "rank", "summed", "results")
        (batch, T, D), (K, L), N, R = self.x.shape, self.order.shape, self.A.shape[1], self.dt_proj.shape[1]
        return dict(zip(names, (batch, T, K, L, D, N, R, *self.back.shape), strict=True))


class GroupedScanInputs(NamedTuple):
    """Those of `OrderedScanInputs` whose results are not added up: y is (B, K, L, D); of float32 in the CUDA kernel."""

    x: Tensor  # (B, T, D)
    x_proj: Tensor  # (K, D, R+2N), columns dt | B | C
    dt_proj: Tensor  # (K, R, D)
    dt_bias: Tensor  # (K, D)
    A: Tensor  # (K, N, D)
    D: Tensor  # (K, D)
    order: Tensor  # (K, L), int64

    @property
    def states(self) -> tuple[str, ...]:
        """What is float32 in every precision."""
        return ("dt_bias", "A", "D")

    @property
    def result_shape(self) -> tuple[int, ...]:
        """That of y."""
        return self.x.shape[0], *self.order.shape, self.x.shape[2]

    def through(self, scan: Scan) -> Tensor:
        """y by this form of the selective scan."""
        R, N = self.dt_proj.shape[1], self.A.shape[1]
        u = self.x.index_select(1, self.order.flatten()).unflatten(1, self.order.shape)  # (B, K, L, D)
        dt, B, C = torch.matmul(u, self.x_proj).split([R, N, N], dim=-1)
        return scan(ScanInputs(u, torch.matmul(dt, self.dt_proj), self.A, B, C, self.D, self.dt_bias, True))

    def shapes(self) -> Shapes:
        """Those that the tensors must have. Raises ValueError as `OrderedScanInputs.shapes` does."""
        shapes = OrderedScanInputs(*self, back=self.order).shapes()
        return {name: shapes[name] for name in self._fields}

    def launch_sizes(self) -> tuple[int, ...]:
        """The sizes among the arguments of the CUDA kernel."""
        return self.x.shape[1], *self.order.shape, self.x.shape[2]

    def plan(self, dtype: str, sm_count: int) -> LaunchPlan:
        """The launch of the CUDA kernel."""
        T, K, L, D = self.launch_sizes()
        return _plan_groups(self.x.shape[0], T, K, L, D, self.A.shape[1], self.dt_proj.shape[1], dtype, sm_count)


class CausalConvInputs(NamedTuple):
    """Those of Mamba's causal depthwise convolution with its SiLU, of tokens in any order; there is nothing to scan.

    y is (B, K, L, D), in the type of x: SiLU(bias_k + sum over j of weight_kj x[order_k(l - taps + 1 + j)]), without
    the terms before the first token.
    """

    x: Tensor  # (B, T, D)
    weight: Tensor  # (K, taps, D)
    bias: Tensor  # (K, D)
    order: Tensor  # (K, L), int64
    taps: int = 4

    @property
    def kernel(self) -> str:
        """The name of the kernels."""
        return "evm_causal_conv"

    @property
    def states(self) -> tuple[str, ...]:
        """What is float32 in every precision: nothing."""
        return ()

    @property
    def result_shape(self) -> tuple[int, ...]:
        """That of y."""
        return self.x.shape[0], *self.order.shape, self.x.shape[2]

    def through(self, scan: Scan) -> Tensor:
        """y; the form of the selective scan has no part in it."""
        K, D = self.bias.shape
        u = self.x.index_select(1, self.order.flatten()).unflatten(1, self.order.shape)  # (B, K, L, D)
        u = F.pad(u.transpose(2, 3).flatten(1, 2), (self.taps - 1, 0))  # (B, K*D, taps - 1 + L)
        y = F.conv1d(u, self.weight.transpose(1, 2).reshape(K * D, 1, -1), self.bias.flatten(), groups=K * D)
        result: Tensor = F.silu(y).unflatten(1, (K, D)).transpose(2, 3)
        return result

    def shapes(self) -> Shapes:
        """Those that the tensors must have. Raises ValueError for another rank of x or the order, and for the taps."""
        if self.taps < 1 or self.x.dim() != 3 or self.order.dim() != 2:
            raise ValueError(
                f"x has shape {tuple(self.x.shape)}, order {tuple(self.order.shape)}, taps is {self.taps}; expected "
                "(B, T, D), (K, L) and at least 1"
            )
        K, D = self.order.shape[0], self.x.shape[2]
        given = (tuple(self.x.shape), (K, self.taps, D), (K, D), tuple(self.order.shape))
        return dict(zip(self._fields, given, strict=False))

    def sizes(self) -> dict[str, int]:
        """As native/c_api.h has them."""
        names = ("batch", "tokens", "groups", "length", "channels", "taps")
        (batch, T, D), (K, L) = self.x.shape, self.order.shape
        return dict(zip(names, (batch, T, K, L, D, self.taps), strict=True))

    def launch_sizes(self) -> tuple[int, ...]:
        """The sizes among the arguments of the CUDA kernel."""
        return self.x.shape[1], *self.order.shape, self.x.shape[2]

    def plan(self, dtype: str, sm_count: int) -> LaunchPlan:
        """The launch of the CUDA kernel."""
        return _plan_conv(self.x.shape[0], *self.launch_sizes(), self.taps, dtype, sm_count)


# what there are native kernels for
KernelInputs: TypeAlias = ScanInputs | Scan2DInputs | OrderedScanInputs | CausalConvInputs
CudaInputs: TypeAlias = ScanInputs | Scan2DInputs | GroupedScanInputs | CausalConvInputs  # and for GPUs
INDICES = ("order", "back")  # the tensors that are int64

_plan_groups = cache(plan_grouped_scan)
_plan_conv = cache(plan_causal_conv)


def list_tensors(inputs: KernelInputs | CudaInputs) -> dict[str, Tensor]:
    """The tensors by their names, without those that are left out."""
    return {name: value for name, value in zip(inputs._fields, inputs, strict=True) if isinstance(value, Tensor)}
