"""Reads the weight file of a package: a header, then a record for each constant with the offset of its data."""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from evm_deploy.runtimes.mil.dtypes import DType, unpack
from evm_deploy.runtimes.mil.package_files import find_inside
from evm_deploy.runtimes.mil.problems import make_package_error, quote

ROOT = "@model_path/"  # the folder of the program's file
ALIGNMENT = 64  # of records and of data; also the size of the header and of a record
VERSION = 2
HEADER = struct.Struct("<II")  # number of records, version
RECORD = struct.Struct("<IIQQQ")  # sentinel, dtype, bytes, offset of the data, bits of padding
SENTINEL = 0xDEADBEEF


class Blobs:
    """The weight files below `folder`, each read on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, name: str, offset: int, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """Reads the constant whose record is at `offset` of the file `name`. It shares the memory of the file.

        Raises BundleError: no such file in the package, or a record or data outside it, or of another type or size.
        """
        data = self._file(name)
        where = f"the constant at {offset} in {quote(name)}"
        if offset % ALIGNMENT or not ALIGNMENT <= offset <= data.size - ALIGNMENT:
            raise make_package_error(f"{where} is outside the file, which has {data.size} bytes")
        sentinel, number, size, start, padding = RECORD.unpack_from(data.data, offset)
        if sentinel != SENTINEL:
            raise make_package_error(f"{where} does not begin with its mark")
        if number != dtype.blob:
            raise make_package_error(f"{where} has element type {number}, not that of {dtype.name}")
        if start % ALIGNMENT or start < ALIGNMENT or start + size > data.size:
            raise make_package_error(
                f"{where} has {size} bytes at {start}, beyond the file, which has {data.size} bytes"
            )
        if padding >= 8 or (size * 8 - padding) % dtype.bits:
            raise make_package_error(f"{where} has {padding} bits of padding")
        return unpack(data[start : start + size], dtype, shape)

    def path(self, name: str) -> Path:
        """Finds the file that the program calls `name`. Raises BundleError: it is not in the package."""
        if not name.startswith(ROOT):
            raise make_package_error(f"the weight file {quote(name)} is not in the package")
        return find_inside(self._folder, name.removeprefix(ROOT))

    def _file(self, name: str) -> npt.NDArray[np.uint8]:
        if name not in self._files:
            data = np.fromfile(self.path(name), np.uint8)
            if data.size < ALIGNMENT or HEADER.unpack_from(data.data)[1] != VERSION:
                raise make_package_error(f"{quote(name)} is not a weight file of version {VERSION}")
            self._files[name] = data
        return self._files[name]
