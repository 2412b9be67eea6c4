"""Where in somebody's network an exception came from: the module's name, and the line of its code."""

import traceback
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

_LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parents[1])


def locate_error(error: BaseException, module: nn.Module | None = None) -> str:
    """Such as " in blocks.0.attn (net.py:31)", to stand in an error's cause; "" where nothing is known."""
    names = {} if module is None else {id(part): name for name, part in module.named_modules()}
    name, line = "", ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        name = names.get(id(frame.f_locals.get("self")), name)
        if is_users(frame.f_code.co_filename):
            line = f"{Path(frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return describe_place(name, line)


def locate_stack(stack_trace: str, name: str) -> str:
    """The same from the text of a stack, as programs keep it of their operations."""
    lines = [line.strip() for line in stack_trace.splitlines() if line.strip().startswith('File "')]
    places = [(parts[1], parts[2].split(",")[1].split()[-1]) for line in lines if len(parts := line.split('"')) > 2]
    found = [f"{Path(file).name}:{number}" for file, number in places if is_users(file)]
    return describe_place(name, found[-1] if found else "")


def locate_caller(name: str) -> str:
    """The same of the code that is running now."""
    found = [
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_stack() if is_users(frame.filename)
    ]
    return describe_place(name, found[-1] if found else "")


def describe_place(name: str, line: str) -> str:
    """` in <module> (<file>:<line>)`, of what is known."""
    return (f" in {name}" if name else "") + (f" ({line})" if line else "")


def is_users(file: str) -> bool:
    """Whether the code of this file is neither PyTorch's nor ours nor made up."""
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in _LIBRARIES)
