"""The selective scan: a slow obvious reference, the chunked form, the native kernel, and what picks one."""

from evm_deploy.scan.interface import selective_scan_fn
from evm_deploy.scan.ops import causal_conv, efficient_scan_2d, ordered_scan, selective_scan

__all__ = ["causal_conv", "efficient_scan_2d", "ordered_scan", "selective_scan", "selective_scan_fn"]
