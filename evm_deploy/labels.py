"""Class names from a user's text file."""

from pathlib import Path

from evm_deploy.errors import InputError

MAX_BYTES = 1 << 22


def read_labels(path: Path, num_classes: int | None) -> tuple[str, ...]:
    """The names in `path`, a line each. Raises InputError: not such a file, or not one name for each class."""
    if num_classes is None:
        raise InputError("a backbone has no classes to label.", "leave --labels out.")
    if not path.is_file():
        raise InputError(f"{path} is not a file.", "name a text file with one class name a line.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES} bytes.", "name a text file with one class name a line.")
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", "save it as UTF-8, one class name a line.") from None
    if len(labels) != num_classes or not all(labels):
        raise InputError(
            f"{path} has {sum(map(bool, labels))} names on {len(labels)} lines; the model has {num_classes} classes.",
            "give one name a line, in the order of the classes, and no empty line.",
        )
    return labels
