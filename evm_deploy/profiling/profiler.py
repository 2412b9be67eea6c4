"""From bundles and a device to a profile: where it will lie is looked at first, statistics come last."""

from collections.abc import Callable, Sequence
from pathlib import Path

from evm_deploy.errors import OptionError
from evm_deploy.folders import check_outside
from evm_deploy.profiling.devices import device
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport


def run(bundles: Sequence[Path], options: ProfileOptions, say: Callable[[str], None]) -> ProfileReport:
    """Measures the bundles, and writes what the options ask for.

    Raises BundleError, DeviceError, InputError, MissingToolError, OptionError, OutputError.
    """
    module, address = device(options.device)
    _check(bundles, options)
    report = module.measure(address, bundles, options, say)
    from evm_deploy import reporting
    from evm_deploy.profiling.estimates import with_estimates
    from evm_deploy.profiling.summaries import summarised

    report = summarised(report)
    if options.estimates:
        say("estimating")
        report = with_estimates(report, bundles, options.estimates)
    if options.out is not None:
        reporting.write(options.out, [report], options.overwrite)
    if options.html is not None:
        reporting.write_page(options.html, [report], options.overwrite)
    return report


def _check(bundles: Sequence[Path], options: ProfileOptions) -> None:
    """What can be wrong is found before minutes of measuring."""
    from evm_deploy import reporting
    from evm_deploy.profiling.peaks import peak

    if not bundles and options.checkpoint is None:
        raise OptionError("there is no bundle to profile.", "name one, or several to compare them.")
    if options.checkpoint is not None and options.device != "local":
        raise OptionError(f"PyTorch is not measured on {options.device}.", "leave --checkpoint out.")
    for name in options.estimates:
        peak(name)
    for place in (options.out, options.html):
        if place is not None:
            check_outside(place, bundles)
    if options.out is not None:
        reporting.check_free(options.out, options.overwrite)
    if options.html is not None:
        reporting.check_page(options.html, options.overwrite, options.out)
