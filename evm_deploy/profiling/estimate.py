"""What a device that one does not have may take: the roofline of its data sheet, and what operators reach of one here.

Never a measurement. Each kind of operator reaches a share of this machine's arithmetic and memory (caches let it exceed
that of memory); the estimate lets it reach the same share of the other's. How well this predicts is tried on blocks of
the network that the shares were not taken from.
"""

from collections.abc import Sequence

from evm_deploy.errors import InputError, OptionError
from evm_deploy.profiling.peaks import FP16, FP32, INT8, Peak
from evm_deploy.profiling.report import Estimate, Operators, TimedOperator
from evm_deploy.verification.integer_report import PRODUCTS, SECOND

NOTE = "estimated, not measured: reaches of its peaks what is reached here; starting operators is not counted"


def estimate(operators: Operators, device: Peak, precision: str) -> Estimate:
    """The time of one run on `device`, milliseconds, with the interval of the error that `check` finds.

    precision: of the model there. float16 halves the bytes of a model measured in float32; int8 has to be measured as
    int8, as it is another graph. Raises OptionError: the device does not have it, or the graph is not of it;
    InputError: the operators are of one block, or were measured without a roofline.
    """
    integer = any(_integer(row) for row in operators.rows)
    if precision not in device.gops or (precision == INT8) != integer:
        offered = [name for name in device.gops if (name == INT8) == integer]
        measured = INT8 if integer else FP32
        fix = f"operators measured in {measured} stand for: {', '.join(offered)}."
        raise OptionError(f"{precision} cannot be estimated for {device.name} of these operators.", fix)
    error = check(operators)
    ms = _predict(operators.rows, _shares(operators.rows, _here(operators)), device, precision)
    note = f"{NOTE}; blocks here are predicted within {error:.0%} of what they took"
    return Estimate(device.name, ms, ms / (1 + error), ms * (1 + error), device.source, note)


def check(operators: Operators) -> float:
    """The error of such estimates on the machine that measured: each block predicted from all others.

    The sum of what the blocks differ by, by the sum of what they took. Raises InputError as `estimate` does.
    """
    here, blocks = _here(operators), {row.block for row in operators.rows}
    if len(blocks) < 2:
        raise InputError("the operators are of one block.", "measure a network whose blocks have names.")
    off = 0.0
    for block in sorted(blocks):
        held = [row for row in operators.rows if row.block == block]
        shares = _shares([row for row in operators.rows if row.block != block], here)
        off += abs(_predict(held, shares, here, INT8) - sum(row.ms for row in held))
    whole = sum(row.ms for row in operators.rows)
    return off / whole if whole else 0.0


def _here(operators: Operators) -> Peak:
    """The machine that measured, by its own peaks."""
    peaks = operators.roofline
    if peaks is None:
        raise InputError("the operators were measured without a roofline.", "measure them with `roofline.measure`.")
    gops = {FP32: peaks.gflops, FP16: peaks.gflops, INT8: peaks.int8_gops or peaks.gflops}
    return Peak("this machine", gops, peaks.gbytes, "measured")


def _shares(rows: Sequence[TimedOperator], here: Peak) -> dict[str, float]:
    """What each kind reaches: its least time by the time it took."""
    least: dict[str, float] = {}
    taken: dict[str, float] = {}
    for row in rows:
        least[row.kind] = least.get(row.kind, 0.0) + _least(row, here, INT8)
        taken[row.kind] = taken.get(row.kind, 0.0) + row.ms
    return {kind: least[kind] / taken[kind] for kind in least if least[kind] and taken[kind]}


def _predict(rows: Sequence[TimedOperator], shares: dict[str, float], device: Peak, precision: str) -> float:
    """Milliseconds; what is of a kind without a share, such as one that only renames, takes none."""
    return sum(_least(row, device, precision) / shares[row.kind] for row in rows if row.kind in shares)


def _least(row: TimedOperator, device: Peak, precision: str) -> float:
    """Milliseconds. With INT8 the products on integers are, and the others stay float32."""
    product = precision if precision != INT8 or _integer(row) else FP32
    moved = (row.bytes or 0) / (2 if precision == FP16 else 1)
    return max((row.flops or 0) / device.gops[product], moved / device.gbytes) / 1e6


def _integer(row: TimedOperator) -> bool:
    """Whether all its products are of integers; in a scan only the first projection can be."""
    name = row.op.removeprefix("evm::")
    return PRODUCTS.get(name, (0, False))[1] and name not in SECOND
