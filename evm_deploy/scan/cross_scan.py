"""The full cross-scan of VMamba (SS2D): four sequences over every token, summed."""

from torch import Tensor

from evm_deploy import scan
from evm_deploy.scan.orders import make_cross_order


def cross_scan_2d(x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor) -> Tensor:
    """(B, H, W, D) -> (B, H, W, D): row-major, column-major, and the reverse of both.

    x_proj (4,D,R+2N), dt_proj (4,R,D), dt_bias (4,D), A (4,N,D), D (4,D).
    """
    order, back = make_cross_order(x.shape[1], x.shape[2], x.device)
    y: Tensor = scan.ordered_scan(x.flatten(1, 2), x_proj, dt_proj, dt_bias, A, D, order, back)
    return y.reshape(x.shape)
