"""The weight file of a package: a header, then for each constant a record of 64 bytes that says where its data lie."""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from evm_deploy.runtimes.mil.dtypes import DType, unpack
from evm_deploy.runtimes.mil.package_files import inside
from evm_deploy.runtimes.mil.problems import damaged, shown

ROOT = "@model_path/"  # the folder of the program's own file
ALIGNMENT = 64  # of records and of data; also the size of the header and of a record
VERSION = 2
HEADER = struct.Struct("<II")  # number of records, version
RECORD = struct.Struct("<IIQQQ")  # sentinel, dtype, bytes, offset of the data, bits of padding
SENTINEL = 0xDEADBEEF


class Blobs:
    """The weight files below `folder`, each read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, name: str, offset: int, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """The constant whose record is at `offset` of the file called `name`; it shares the memory of the file.

        Raises BundleError: no such file in the package, a record or data outside it, or of another type or size.
        """
        data = self._file(name)
        where = f"the constant at {offset} in {shown(name)}"
        if offset % ALIGNMENT or not ALIGNMENT <= offset <= data.size - ALIGNMENT:
            raise damaged(f"{where} is not a place in the file, which has {data.size} bytes")
        sentinel, number, size, start, padding = RECORD.unpack_from(data.data, offset)
        if sentinel != SENTINEL:
            raise damaged(f"{where} does not begin with its mark")
        if number != dtype.blob:
            raise damaged(f"{where} has element type {number}, not that of {dtype.name}")
        if start % ALIGNMENT or start < ALIGNMENT or start + size > data.size:
            raise damaged(f"{where} has {size} bytes at {start}, beyond the file, which has {data.size} bytes")
        if padding >= 8 or (size * 8 - padding) % dtype.bits:
            raise damaged(f"{where} has {padding} bits of padding")
        return unpack(data[start : start + size], dtype, shape)

    def path(self, name: str) -> Path:
        """The file called `name` by the program. Raises BundleError: there is none in the package."""
        if not name.startswith(ROOT):
            raise damaged(f"the weight file {shown(name)} is not in the package")
        return inside(self._folder, name.removeprefix(ROOT))

    def _file(self, name: str) -> npt.NDArray[np.uint8]:
        if name not in self._files:
            data = np.fromfile(self.path(name), np.uint8)
            if data.size < ALIGNMENT or HEADER.unpack_from(data.data)[1] != VERSION:
                raise damaged(f"{shown(name)} is not a weight file of version {VERSION}")
            self._files[name] = data
        return self._files[name]
