"""Signatures in minisign's format: Ed25519 over the BLAKE2b hash of a file. `minisign` can read our files.

https://jedisct1.github.io/minisign/ describes them: a key is a comment line and a base64 line, a signature two such
pairs.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import hashlib
import hmac
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evm_deploy.errors import CheckFailed, InputError
from evm_deploy.files import digest_file, read_text
from evm_deploy.optional import import_library

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASSWORD_VARIABLE = "EVM_DEPLOY_SIGN_PASSWORD"
_LONGEST_PATH = 4096  # characters; no system allows longer paths
_LARGEST = 1 << 16  # largest key or signature file that is read, in bytes
_LARGEST_MEMORY = (1 << 31) - 1  # most memory that opening a key may need; minisign's keys need 1 GiB
_KEY_FIX = "name a secret key that `minisign -G` wrote."
_SIGNATURE_FIX = "get the package again from its source."


@dataclass(frozen=True)
class SecretKey:
    """The key that signs, and the number that identifies it."""

    number: bytes
    key: Ed25519PrivateKey


@dataclass(frozen=True)
class PublicKey:
    """The key that checks a signature."""

    number: bytes
    key: Ed25519PublicKey


def read_secret_key(path: Path) -> SecretKey:
    """Reads minisign's secret key, encrypted or not. The password is EVM_DEPLOY_SIGN_PASSWORD; otherwise the user is
    asked for it.

    Raises InputError: no such file, not a secret key, a wrong password, or no password; MissingToolError: cryptography
    is not installed.
    """
    ed25519 = import_library("cryptography.hazmat.primitives.asymmetric.ed25519")
    data = _decode_payload(_read_text(path, "secret key", _KEY_FIX), f"{path} is not a minisign secret key.", 158)
    algorithm, kdf, checksum, salt, limits, body = _split(data, 2, 2, 2, 32, 16, 104)
    if algorithm != b"Ed" or checksum != b"B2" or kdf not in (b"Sc", b"\0\0"):
        raise InputError(f"{path} is a secret key of an unknown kind.", _KEY_FIX)
    if kdf == b"Sc":
        body = _decrypt(path, body, salt, limits)
    number, seed, public, check = _split(body, 8, 32, 32, 32)
    if not hmac.compare_digest(hashlib.blake2b(algorithm + number + seed + public, digest_size=32).digest(), check):
        raise InputError(f"the password for {path} is wrong, or the key is damaged.", f"set {PASSWORD_VARIABLE} again.")
    return SecretKey(number, ed25519.Ed25519PrivateKey.from_private_bytes(seed))


def read_public_key(text: str) -> PublicKey:
    """Reads minisign's public key: `text` is the name of its file, or its base64 line.

    Raises InputError: it is neither; MissingToolError: cryptography is not installed.
    """
    ed25519 = import_library("cryptography.hazmat.primitives.asymmetric.ed25519")
    fix = "name the .pub file that `minisign -G` wrote, or give its second line."
    named = len(text) < _LONGEST_PATH and Path(text).is_file()
    content = _read_text(Path(text), "public key", fix) if named else text
    data = _decode_payload(content, f"{text[:80]!r} is neither a minisign public key nor a file with one.", 42, fix)
    algorithm, number, public = _split(data, 2, 8, 32)
    if algorithm != b"Ed":
        raise InputError(f"{text[:80]!r} is a public key of an unknown kind.", fix)
    return PublicKey(number, ed25519.Ed25519PublicKey.from_public_bytes(public))


def sign_file(path: Path, signature: Path, key: SecretKey, name: str) -> None:
    """Writes the signature of the file at `path` to `signature`; `name` is the final name of the file.

    The same file and key give the same signature.
    """
    signed = key.key.sign(digest_file(path, "blake2b"))
    trusted = f"file:{name}\thashed"
    both = key.key.sign(signed + trusted.encode())
    lines = (
        "untrusted comment: signature of an evm-deploy package",
        base64.b64encode(b"ED" + key.number + signed).decode(),
        f"trusted comment: {trusted}",
        base64.b64encode(both).decode(),
    )
    signature.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def check_file(path: Path, signature: Path, key: PublicKey) -> str:
    """Checks the signature of the file at `path`, and returns its trusted comment.

    Raises InputError: not a signature in minisign's format; CheckFailed: made with another key, or of another file.
    """
    exceptions = import_library("cryptography.exceptions")
    lines = _read_text(signature, "signature", _SIGNATURE_FIX).splitlines()
    wrong = f"{signature} is not a minisign signature."
    if len(lines) != 4 or not lines[2].startswith("trusted comment: "):
        raise InputError(wrong, _SIGNATURE_FIX)
    trusted = lines[2].removeprefix("trusted comment: ")
    algorithm, number, signed = _split(_decode_payload("\n".join(lines[:2]), wrong, 74, _SIGNATURE_FIX), 2, 8, 64)
    if algorithm != b"ED":
        raise InputError(f"{signature} signs the file itself, not its hash.", "sign it with minisign 0.10 or newer.")
    if number != key.number:
        raise CheckFailed(f"{signature} was made with another key.", "use the public key of whoever made the package.")
    try:
        key.key.verify(signed, digest_file(path, "blake2b"))
        key.key.verify(_decode_payload(lines[3], wrong, 64, _SIGNATURE_FIX), signed + trusted.encode())
    except exceptions.InvalidSignature:
        raise CheckFailed(f"{path} is not the file that was signed.", _SIGNATURE_FIX) from None
    return trusted


def _decrypt(path: Path, body: bytes, salt: bytes, limits: bytes) -> bytes:
    operations, memory = (int.from_bytes(half, "little") for half in (limits[:8], limits[8:]))
    if not (1 << 15 <= operations <= 1 << 32 and 1 << 20 <= memory <= _LARGEST_MEMORY):
        raise InputError(f"{path} needs more memory or time to open than evm-deploy allows.", _KEY_FIX)
    n, p = _compute_scrypt_cost(operations, memory)
    password = _ask_password(path).encode()
    try:
        stream = hashlib.scrypt(password, salt=salt, n=n, r=8, p=p, maxmem=_LARGEST_MEMORY, dklen=len(body))
    except (ValueError, MemoryError) as error:
        raise InputError(f"{path} cannot be decrypted here ({error}).", "free a GiB of memory.") from None
    return bytes(a ^ b for a, b in zip(body, stream, strict=True))


def _compute_scrypt_cost(operations: int, memory: int) -> tuple[int, int]:
    """scrypt's N and p for r = 8, chosen from the two limits as libsodium does."""
    if operations < memory // 32:
        return max(2, 1 << (operations // 32).bit_length() - 1), 1
    n = max(2, 1 << (memory // 1024).bit_length() - 1)
    return n, max(1, min(operations // 4 // n, 0x3FFFFFFF) // 8)


def _ask_password(path: Path) -> str:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise InputError(
            f"{path} is encrypted, and there is no terminal to ask for its password.", f"set {PASSWORD_VARIABLE}."
        )
    return getpass.getpass(f"Password for {path}: ")


def _read_text(path: Path, what: str, fix: str) -> str:
    if not path.is_file():
        raise InputError(f"{path} is not a file, so it holds no {what}.", fix)
    return read_text(path, _LARGEST, lambda cause: InputError(cause, fix))


def _decode_payload(text: str, wrong: str, length: int, fix: str = _KEY_FIX) -> bytes:
    """Decodes the base64 line, with or without an untrusted comment before it. Raises InputError: another length."""
    lines = text.strip().splitlines() or [""]
    try:
        data = base64.b64decode(lines[-1], validate=True)
    except (binascii.Error, ValueError):
        data = b""
    comment = lines[0].startswith("untrusted comment:")
    if len(data) != length or len(lines) != 1 + comment:
        raise InputError(wrong, fix)
    return data


def _split(data: bytes, *lengths: int) -> list[bytes]:
    parts, start = [], 0
    for length in lengths:
        parts.append(data[start : start + length])
        start += length
    return parts
