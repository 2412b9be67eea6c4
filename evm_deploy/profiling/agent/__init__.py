"""What measures, on this machine or on any other: one program that needs Python 3.8, numpy and a runtime.

It imports nothing of evm_deploy, so that it can be sent elsewhere as one file (`evm_deploy.profiling.zipped`).
"""
