"""Orders for `scan.ordered_scan`: which token each group scans when, and where what it gives belongs.

Each order is a pair `order` (K, L) and `back` (M, T), int64, of tensor operations alone, so that a traced size may
stay dynamic.
"""

import torch
from torch import Tensor

Order = tuple[Tensor, Tensor]


def make_cross_order(H: int, W: int, device: torch.device | None = None) -> Order:
    """The cross-scan of a map (arXiv 2401.10166): row by row, column by column, and the reverse of both.

    The tokens (H, W) lie row by row; each is in all four groups, and its results are added up.
    """
    L = H * W
    rows = torch.arange(L, device=device)
    columns = rows.view(H, W).t().reshape(L)  # the token that is l-th by columns
    order = torch.stack([rows, columns, L - 1 - rows, columns.flip(0)])
    by_column = rows.view(W, H).t().reshape(L)  # when a token comes by columns
    back = torch.stack([rows, L + by_column, 3 * L - 1 - rows, 4 * L - 1 - by_column])
    return order, back


def make_two_way_order(L: int, device: torch.device | None = None) -> Order:
    """A sequence forwards and backwards, its results added up."""
    tokens = torch.arange(L, device=device)
    return torch.stack([tokens, L - 1 - tokens]), torch.stack([tokens, 2 * L - 1 - tokens])


def number_tokens(K: int, L: int, device: torch.device | None = None) -> Tensor:
    """The order (K, L) of K sequences that lie one after the other as they are scanned."""
    return torch.arange(K * L, device=device).view(K, L)
