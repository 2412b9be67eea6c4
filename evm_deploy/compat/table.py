"""The modules that are supplied, and what is in them. What is not in these tables fails by its name."""

from collections.abc import Mapping
from typing import Any

from evm_deploy.compat import causal_conv1d, kernels, mamba, norms, scan_extensions, ssd
from evm_deploy.compat.refusals import make_refusal
from evm_deploy.compat.vmamba import DepthwiseFunction, scan_in_order_of_vmamba
from evm_deploy.scan.interface import selective_scan_fn

_VMAMBA = {"fwd": scan_extensions.run_vmamba, "bwd": scan_extensions.differentiate_vmamba}
Modules = Mapping[str, Mapping[str, Any]]


class GenerationMixin:
    """The base of mamba's language models, which are not supplied."""


# Supplied whether they are installed or not: what they would run on is CUDA.
ALWAYS: Modules = {
    "selective_scan_cuda": {"fwd": scan_extensions.run_mamba, "bwd": scan_extensions.differentiate_mamba},
    "selective_scan_cuda_core": _VMAMBA,
    "selective_scan_cuda_nrow": _VMAMBA,
    "selective_scan_cuda_ndstate": _VMAMBA,
    "selective_scan_cuda_oflex": _VMAMBA,
    "selective_scan_cuda_oflex_rh": {
        "fwd": scan_extensions.run_states,
        "bwd": scan_extensions.differentiate_states,
    },
    "causal_conv1d": causal_conv1d.INTERFACE,
    "causal_conv1d.causal_conv1d_interface": {
        **causal_conv1d.INTERFACE,
        "causal_conv1d_ref": causal_conv1d.causal_conv1d_fn,
    },
    "causal_conv1d.cpp_functions": {
        "causal_conv1d_fwd_function": causal_conv1d.run,
        "causal_conv1d_bwd_function": causal_conv1d.differentiate_convolution,
        "causal_conv1d_update_function": causal_conv1d.causal_conv1d_update,
    },
    "causal_conv1d_cuda": {
        "causal_conv1d_fwd": causal_conv1d.run,
        "causal_conv1d_bwd": causal_conv1d.differentiate_convolution,
        "causal_conv1d_update": causal_conv1d.causal_conv1d_update,
    },
    "mamba_ssm.ops.triton": {},
    "mamba_ssm.ops.triton.layer_norm": norms.PLAIN,
    "mamba_ssm.ops.triton.layernorm": norms.PLAIN,
    "mamba_ssm.ops.triton.layernorm_gated": norms.GATED,
    "mamba_ssm.ops.triton.selective_state_update": {"selective_state_update": ssd.selective_state_update},
    "mamba_ssm.ops.triton.ssd_combined": ssd.COMBINED,
    # Language models, which its other modules import.
    "mamba_ssm.models.mixer_seq_simple": {"MambaLMHeadModel": make_refusal("MambaLMHeadModel")},
    "mamba_ssm.modules.mamba3": {"Mamba3": make_refusal("Mamba3")},
    "mamba_ssm.utils.generation": {"GenerationMixin": GenerationMixin},
    "mamba_ssm.utils.hf": {
        "load_config_hf": make_refusal("load_config_hf"),
        "load_state_dict_hf": make_refusal("load_state_dict_hf"),
    },
    "triton": kernels.TRITON,
    "Dwconv": {},
    "Dwconv.dwconv_layer": {"DepthwiseFunction": DepthwiseFunction},
}
# Supplied where nobody's own is found, such as the one in a repository.
MISSING: Modules = {
    "mamba_ssm": {
        "Mamba": mamba.Mamba,
        "Mamba2": mamba.Mamba2,
        "selective_scan_fn": selective_scan_fn,
        "mamba_inner_fn": mamba.mamba_inner_fn,
        "MambaLMHeadModel": make_refusal("MambaLMHeadModel"),
    },
    "mamba_ssm.models": {},
    "mamba_ssm.modules": {},
    "mamba_ssm.modules.mamba_simple": {"Mamba": mamba.Mamba},
    "mamba_ssm.modules.mamba2": {"Mamba2": mamba.Mamba2},
    "mamba_ssm.ops": {},
    "mamba_ssm.ops.selective_scan_interface": mamba.INTERFACE,
    "mamba_ssm.utils": {},
    "selective_scan": {
        "selective_scan_fn": scan_in_order_of_vmamba,
        "selective_scan_ref": scan_in_order_of_vmamba,
    },
}
ROOTS = frozenset(name.partition(".")[0] for name in (*ALWAYS, *MISSING))
