"""Signatures: minisign reads ours, we read minisign's, and every change is found."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evm_deploy.errors import CheckFailed, EvmDeployError, InputError
from evm_deploy.packaging import sign
from evm_deploy.packaging.package import Package
from evm_deploy.packaging.verify import verify

Maker = Callable[..., Package]
MINISIGN = shutil.which("minisign")

# Made by minisign 0.11 with the password "open" and without one, for nothing but this test.
PUBLIC = "RWQK85BrLL8EZ/q/3O1QPR8UM2fK65EAj/X9Aq3K7yy3c7Pm+LX1/Ygm"
ENCRYPTED = (
    "RWRTY0IyfzyJ92AYcWpWwXrc12Tw2a/v2HSa3D0aFRjzak/CvboAAAACAAAAAAAAAEAAAAAAJXV7zxuLwrcGsQbOAeCwdL1PdbOF"
    "mm3TNKOmofgk24dx3JBuhIc6ytOJluQ45ZtBv+H6d6lbuDI9LO0wI94jKRY4ffZR4VceAayu//Lth3E6UkdUjwVG1f7cT+AagongQ/TJixcvYTY="
)
PLAIN = (
    "RWQAAEIyfzyJ92AYcWpWwXrc12Tw2a/v2HSa3D0aFRjzak/CvboAAAACAAAAAAAAAEAAAAAACvOQayy/BGeNeRTDAcXH+LzfEbq7"
    "8YlGlrjRWK6IQenBaED8s35gwPq/3O1QPR8UM2fK65EAj/X9Aq3K7yy3c7Pm+LX1/YgmCSDuqIZovd3xivt40yj8GMPfpTj/Se7TFfU7rlz7Ic8="
)
SIGNATURE = (
    "untrusted comment: signature from minisign secret key\n"
    "RUQK85BrLL8EZ1ByJNg7JsCYzBk7PaCT7X4r8dUzxuYR9etss2Unxn6L335KN8L3Cnj3oH9oGsWyb/E5w7FRUYAulAHIpyvFGw4=\n"
    "trusted comment: timestamp:1795274724\tfile:file\thashed\n"
    "Z11GASBMtCFW44yKUK1WR2pyvM16ntfloxXeT89otu/sJTf/F021kMa/SyJufLcln7pq4RRVMt52nFiV50kXAQ==\n"
)
SIGNED = b"a package\n"


def write_key(path: Path, line: str) -> Path:
    path.write_text(f"untrusted comment: minisign secret key\n{line}\n")
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "plain.key", PLAIN)


def test_the_signature_of_minisign_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(SIGNED)
    (tmp_path / "file.minisig").write_text(SIGNATURE)
    comment = sign.check_file(tmp_path / "file", tmp_path / "file.minisig", sign.read_public_key(PUBLIC))
    assert comment.startswith("timestamp:")
    (tmp_path / "file").write_bytes(SIGNED[:-1])
    with pytest.raises(CheckFailed, match="not the file that was signed"):
        sign.check_file(tmp_path / "file", tmp_path / "file.minisig", sign.read_public_key(PUBLIC))


def test_both_keys_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    monkeypatch.setenv(sign.PASSWORD_VARIABLE, "open")
    opened = sign.read_secret_key(write_key(tmp_path / "key", ENCRYPTED))
    assert opened.key.private_bytes_raw() == sign.read_secret_key(key).key.private_bytes_raw()
    assert opened.number == sign.read_public_key(PUBLIC).number


def locked(path: Path, password: str) -> Path:
    """The key encrypted at little cost: N = 1024, as libsodium chooses it for these limits."""
    data = base64.b64decode(PLAIN)
    limits = (1 << 15).to_bytes(8, "little") + (1 << 20).to_bytes(8, "little")
    stream = hashlib.scrypt(password.encode(), salt=bytes(32), n=1024, r=8, p=1, dklen=104)
    body = bytes(a ^ b for a, b in zip(data[54:], stream, strict=True))
    return write_key(path, base64.b64encode(b"EdScB2" + bytes(32) + limits + body).decode())


def test_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    path = locked(tmp_path / "key", "sésame")
    monkeypatch.setenv(sign.PASSWORD_VARIABLE, "sésame")
    assert sign.read_secret_key(path).number == sign.read_secret_key(key).number
    monkeypatch.setenv(sign.PASSWORD_VARIABLE, "wrong")
    with pytest.raises(InputError, match=r"password .* is wrong"):
        sign.read_secret_key(path)
    monkeypatch.delenv(sign.PASSWORD_VARIABLE)
    with path.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(InputError, match="no terminal to ask"):
            sign.read_secret_key(path)


@pytest.mark.skipif(MINISIGN is None, reason="minisign is not installed")
def test_minisign_reads_ours(pack: Maker, tmp_path: Path, key: Path) -> None:
    made = pack(tmp_path / "out", archive=True, sign=key)
    assert made.archive
    assert [path.name for path in made.signatures] == ["evm-package.json.minisig", "out.zip.minisig"]
    for file in (tmp_path / "out/evm-package.json", made.archive):
        subprocess.run([str(MINISIGN), "-V", "-P", PUBLIC, "-m", str(file)], check=True, capture_output=True)


def test_a_signed_package(pack: Maker, tmp_path: Path, key: Path) -> None:
    one = pack(tmp_path / "one", archive=True, sign=key)
    two = pack(tmp_path / "two", archive=True, sign=key)
    assert one.archive_sha256 == two.archive_sha256
    assert one.archive
    (tmp_path / "key.pub").write_text(f"untrusted comment: minisign public key\n{PUBLIC}\n")
    for path in (one.path, one.archive):
        assert verify(path, PUBLIC).signature == "valid"
        assert verify(path, str(tmp_path / "key.pub")).trusted_comment == "file:evm-package.json\thashed"
        assert verify(path).signature == "not checked"


def test_a_signature_that_does_not_hold(pack: Maker, tmp_path: Path, key: Path) -> None:
    pack(tmp_path / "out", sign=key)
    index, signature = tmp_path / "out/evm-package.json", tmp_path / "out/evm-package.json.minisig"
    good, signed = index.read_bytes(), signature.read_text()
    index.write_bytes(good + b"\n")  # every file is still as the index says
    assert verify(tmp_path / "out").signature == "not checked"
    with pytest.raises(CheckFailed, match="not the file that was signed"):
        verify(tmp_path / "out", PUBLIC)
    index.write_bytes(good)
    signature.write_text(signed.replace("file:evm", "file:avm"))
    with pytest.raises(CheckFailed, match="not the file that was signed"):
        verify(tmp_path / "out", PUBLIC)
    other = bytearray(base64.b64decode(PUBLIC))
    other[5] ^= 1
    signature.write_text(signed)
    with pytest.raises(CheckFailed, match="another key"):
        verify(tmp_path / "out", base64.b64encode(other).decode())
    signature.unlink()
    with pytest.raises(CheckFailed, match="is not signed"):
        verify(tmp_path / "out", PUBLIC)


def test_damaged_signatures_are_refused(tmp_path: Path) -> None:
    public = sign.read_public_key(PUBLIC)
    file, signature = tmp_path / "file", tmp_path / "file.minisig"
    file.write_bytes(SIGNED)
    for at in range(len("untrusted comment:"), len(SIGNATURE) - 1):
        if SIGNATURE[at] == "\n" or at < SIGNATURE.index("\n"):
            continue
        signature.write_text(SIGNATURE[:at] + ("A" if SIGNATURE[at] != "A" else "B") + SIGNATURE[at + 1 :])
        with pytest.raises(EvmDeployError):
            sign.check_file(file, signature, public)
    for text in ("", "x\n" * 4, SIGNATURE * 2, SIGNATURE[:100]):
        signature.write_text(text)
        with pytest.raises(EvmDeployError):
            sign.check_file(file, signature, public)


@pytest.mark.parametrize("text", ["", "nonsense", "A" * 56, base64.b64encode(b"Xx" + bytes(40)).decode()])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(InputError, match="public key"):
        sign.read_public_key(text)


def test_what_is_no_secret_key(tmp_path: Path, pack: Maker) -> None:
    greedy = bytearray(base64.b64decode(ENCRYPTED))
    greedy[46:54] = (1 << 60).to_bytes(8, "little")  # of memory
    foreign, demanding = (base64.b64encode(data).decode() for data in (bytes(158), greedy))
    lines = {"nonsense": "is not a", "AAAA": "is not a", foreign: "unknown kind", demanding: "needs more memory"}
    for line, said in lines.items():
        with pytest.raises(InputError, match=said):
            pack(tmp_path / "out", sign=write_key(tmp_path / "key", line))
    with pytest.raises(InputError, match="is not a file"):
        pack(tmp_path / "out", sign=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_the_cost_of_a_password() -> None:
    assert sign._compute_scrypt_cost(33554432, 1073741824) == (1 << 20, 1)  # minisign's
    assert sign._compute_scrypt_cost(524288, 16777216) == (1 << 14, 1)  # libsodium's "interactive"
    assert sign._compute_scrypt_cost(32768, 1 << 24) == (1 << 10, 1)  # few operations, much memory
