"""Files that are damaged, and files that would do something: neither gets further than one clear line."""

import argparse
import collections
import contextlib
import io
import os
import pathlib
import pickle
import random
import re
import struct
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from evm_deploy.errors import CheckpointError
from evm_deploy.models import load

LEGACY = {"_use_new_zipfile_serialization": False}
FORMATS = pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])


class CfgNode(dict):
    """As yacs has it: a dict with attributes of its own."""

    def __init__(self, **values):
        super().__init__(values)
        self.__dict__["__immutable__"] = True


class Node:
    """As omegaconf has it: a class that says what its state is."""

    def __init__(self, content):
        self.content = content

    def __getstate__(self):
        return {"_content": self.content, "_parent": None}

    def __setstate__(self, state):
        raise AssertionError("a stand-in must take the state")


class Runs:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def weights(golden):
    return golden.state_dict("micro")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pth"


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def unchanged_or_refused(path, weights) -> bool:
    """Whether `path` was refused; if it was not, its weights must be the right ones."""
    try:
        state = load(path).state_dict()
    except CheckpointError:
        return True
    assert all(torch.equal(state[key], t) for key, t in weights.items())
    return False


# Configuration objects beside the weights


@FORMATS
@pytest.mark.parametrize(
    "extra",
    [
        argparse.Namespace(lr=1e-3, output=pathlib.PurePosixPath("/runs/1"), dims=[48, 96]),
        CfgNode(MODEL=CfgNode(DIMS=[48, 96], DROP=np.float64(0.1)), SEED=np.int64(3)),
        Node({"lr": Node(0.1), "names": collections.OrderedDict(a=1)}),
        {"history": collections.defaultdict(list), "accuracy": np.arange(3.0), "dtype": np.dtype("float32")},
    ],
    ids=["argparse", "yacs", "omegaconf", "numpy"],
)
def test_configurations_are_passed_over(weights, file, extra, options):
    torch.save({"config": extra, "model": weights, "args": extra}, file, **options)
    state = load(file).state_dict()
    assert all(torch.equal(state[key], t) for key, t in weights.items())


def test_nothing_of_a_configuration_stays_allowed(weights, file):
    torch.save({"config": argparse.Namespace(a=1), "model": weights}, file)
    load(file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)


# Code


def attacks(marker):
    command = f"touch {marker}"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    return {
        "os.system": Runs(os.system, command),
        "eval": Runs(eval, code),
        "exec": Runs(exec, code),
        "getattr": Runs(getattr, "os", "system"),
        "open": Runs(open, str(marker), "w"),
        "posixpath": Runs(os.path.exists, "/"),
        "nested": [{"deep": (Runs(exec, code),)}],
        "argument of a harmless call": Runs(collections.defaultdict, Runs(exec, code)),
        "partial": Runs(__import__("functools").partial, Runs(eval, code)),
        "numpy": Runs(np.load, str(marker)),
        "torch": Runs(torch.load, str(marker)),
        "storage": Runs(torch.storage._load_from_bytes, pickle.dumps(Runs(exec, code))),
        "in place of the weights": Runs(exec, code),
    }


@FORMATS
@pytest.mark.parametrize("name", attacks("x"))
def test_code_is_refused_and_never_run(weights, file, tmp_path, name, options):
    marker = tmp_path / "marker"
    attack = attacks(marker)[name]
    content = attack if name == "in place of the weights" else {"model": weights, "args": attack}
    torch.save(content, file, **options)
    said = refusal(file)
    assert not marker.exists()
    assert "holds code, which was not run: a call of " in said


def test_the_attacks_are_real(tmp_path):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(attacks(marker)["nested"]))
    assert marker.exists()


def test_a_plain_pickle_with_code_is_refused(weights, file):
    file.write_bytes(pickle.dumps({"a": Runs(os.system, "true")}))
    refusal(file)


def test_a_pickle_that_torch_did_not_write_is_refused(file):
    file.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    assert "cannot be read safely" in refusal(file)


def test_torch_says_nothing_beside_our_line(file, recwarn):
    file.write_bytes(pickle.dumps(Runs(os.system, ("true",)), protocol=4))  # torch warns of the protocol
    refusal(file)
    assert not recwarn.list


@FORMATS
@pytest.mark.parametrize("boxed", [False, True])
def test_a_whole_pickled_network(file, options, boxed):
    network = torch.nn.Linear(2, 2)
    torch.save({"model": network, "loss": torch.ones(1)} if boxed else network, file, **options)
    said = refusal(file)
    assert "holds a whole pickled module (torch.nn.modules.linear.Linear)" in said
    entry = "['model']" if boxed else ""
    assert f"torch.save(torch.load(path, weights_only=False){entry}.state_dict(), new_path)" in said


def test_a_torchscript_program(file):
    class Double(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    exported = torch.export.export(Double(), (torch.ones(1),))
    torch.export.save(exported, file)
    assert "not one of torch.save" in refusal(file)
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("x/data.pkl", "x/constants.pkl", "x/code/__torch__.py"):
            archive.writestr(name, b"\x80\x02}.")
    assert "is a TorchScript program" in refusal(file)


# Other files in the place of a checkpoint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "pointer of git LFS.* `git lfs pull`"),
        (b"<!DOCTYPE html><title>404</title>", "a web page.*Download the file itself"),
        (b"\n <html>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
        (b"\x08\x0a\x12\x07pytorch", "an ONNX file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x1f\x8b\x08\x00", "compressed.*Unpack it first"),
        (b"", "an empty file"),
        (b"weights", "is not a checkpoint: it starts with b'weights'"),
    ],
)
def test_other_files_are_named(file, content, words):
    file.write_bytes(content)
    assert re.search(words, refusal(file))


def test_folders_are_named(tmp_path, make_bundle):
    make_bundle(tmp_path / "bundle")
    assert "is not a file, but a bundle. Fix: Pass the checkpoint that it was made from" in refusal(tmp_path / "bundle")
    (tmp_path / "epoch_1.pth").touch()
    assert "a folder. Fix: Name one of its files: epoch_1.pth." in refusal(tmp_path)


def test_a_package(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("digits/evm-package.json", "{}")
    assert "is a package. Fix: Pass the checkpoint itself" in refusal(file)


# Damage


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [1, 8, 9, 200, 0.3, 0.9, -1])
def test_truncated_files(weights, file, kind, kept):
    write(weights, file, kind)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))] if isinstance(kept, float) else whole[:kept])
    refusal(file)


def test_every_changed_bit_of_a_zip_is_found_or_without_effect(weights, file):
    write(weights, file, "zip")
    whole, chance = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        position = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[position] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        refused += unchanged_or_refused(file, weights)
    assert refused > 40  # the others fell into padding and repeated headers


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_changed_bits_of_a_header_never_crash(weights, file, kind):
    write(weights, file, kind)
    whole, chance = file.read_bytes(), random.Random(1)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[chance.randrange(400)] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            load(file)


def test_a_header_that_declares_absurd_sizes(file):
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{")
    refusal(file)
    header = b'{"a":{"dtype":"F32","shape":[1099511627776,1024],"data_offsets":[0,4503599627370496]}}'
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    refusal(file)


def test_a_storage_that_declares_more_than_its_record(weights, file):
    write({"patch_embed.0.weight": torch.arange(10.0)}, file, "zip")
    rewrite(file, lambda name, data: data.replace(b"K\x0a", b"J" + struct.pack("<i", 1 << 30)))
    refusal(file)


def test_a_zip_that_expands(weights, file):
    write(weights, file, "zip")
    rewrite(file, lambda name, data: data, compression=zipfile.ZIP_DEFLATED)
    assert "compressed record" in refusal(file)


def test_another_kind_of_zip(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not one of torch.save" in refusal(file)


def write(weights, path, kind):
    if kind == "safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path, **(LEGACY if kind == "legacy" else {}))


def rewrite(path, change, compression=zipfile.ZIP_STORED):
    """Write the zip at `path` again, each record as `change` gives it."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, change(name, data) if name.endswith("data.pkl") else data)
