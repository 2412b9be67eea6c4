"""From a model to a file of a target: one module a target, loaded when its target is asked for."""

from evm_deploy.exporters.export_options import TARGETS, ExportOptions

__all__ = ["TARGETS", "ExportOptions"]
