"""The table of the families whose checkpoints can be read."""

from evm_deploy.models import efficientvmamba, vim, vmamba
from evm_deploy.models.family import Family

# A checkpoint that fits two is of the first.
FAMILIES: tuple[Family, ...] = (efficientvmamba.FAMILY, vmamba.FAMILY, vim.FAMILY)
