"""The table of the families whose checkpoints can be read."""

from evm_deploy.models import efficientvmamba
from evm_deploy.models.family import Family

FAMILIES: tuple[Family, ...] = (efficientvmamba.FAMILY,)  # a checkpoint that fits two is of the first
