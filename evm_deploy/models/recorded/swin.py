"""What the training script of Swin, and those made from it such as VMamba's, record: their `config`."""

from __future__ import annotations

from typing import Any

from evm_deploy.models.recorded.statement import Statement, as_mapping


def read_swin(source: str, said: Any) -> Statement:
    """Reads DATA.INTERPOLATION, DATA.IMG_SIZE and TEST.CROP: without the last, images are squashed."""
    entries, statement = as_mapping(said), Statement(source)
    data, test = as_mapping(entries.get("DATA")), as_mapping(entries.get("TEST"))
    if data.get("INTERPOLATION"):
        statement.add("interpolation", data["INTERPOLATION"])
    if test.get("CROP") is True:  # to int(256 / 224 * IMG_SIZE), and then to IMG_SIZE
        statement.add("crop_pct", 0.875)
    elif test.get("CROP") is False:
        statement.add("resize", "squash")
        statement.add("crop_pct", 1.0)
    statement.add_size(data.get("IMG_SIZE"))
    return statement
