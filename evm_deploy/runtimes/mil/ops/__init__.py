"""The operations that can be evaluated: a table from their names to typed functions of their parameters."""

from evm_deploy.runtimes.mil.ops import constants, elementwise, linear, lookups, reductions, resizing, shaping
from evm_deploy.runtimes.mil.ops.row import OperationRow

WIDENED = (elementwise.WIDENED, linear.WIDENED, reductions.WIDENED)
AS_STORED = (
    constants.AS_STORED,
    elementwise.AS_STORED,
    lookups.AS_STORED,
    reductions.AS_STORED,
    resizing.AS_STORED,
    shaping.AS_STORED,
)

OPERATIONS = {
    **{name: OperationRow(function, wide=True) for table in WIDENED for name, function in table.items()},
    **{name: OperationRow(function, wide=False) for table in AS_STORED for name, function in table.items()},
}
