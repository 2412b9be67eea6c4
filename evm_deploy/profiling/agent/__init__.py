"""The agent: a program that measures on this machine or another. It needs Python 3.8, numpy and a runtime.

It imports nothing else from evm_deploy, so that it can be sent as one file (`evm_deploy.profiling.zipped`).
"""
