"""From bundles and a device to a profile."""

from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.errors import OptionError
from evm_deploy.profiling.devices import find_device
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport


def run_profile(bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]) -> ProfileReport:
    """Measures the bundles, then computes statistics and estimates.

    Raises BundleError, DeviceError, InputError, MissingToolError, OptionError.
    """
    check(bundles, options)
    module, address = find_device(options.device)
    report = module.measure(address, bundles, options, say)
    from evm_deploy.profiling.estimates import add_estimates
    from evm_deploy.profiling.summaries import add_summaries

    report = add_summaries(report)
    if options.estimates:
        say("estimating")
        report = add_estimates(report, bundles, options.estimates)
    return report


def check(bundles: Sequence[Path], options: ProfileOptions) -> None:
    """What can be wrong is found before minutes of measuring. Raises OptionError."""
    from evm_deploy.profiling.peaks import find_peak

    find_device(options.device)
    if not bundles and options.checkpoint is None:
        raise OptionError("there is no bundle to profile.", "name one, or several to compare them.")
    if options.checkpoint is not None and options.device != "local":
        raise OptionError(f"PyTorch is not measured on {options.device}.", "leave --checkpoint out.")
    for name in options.estimates:
        find_peak(name)
