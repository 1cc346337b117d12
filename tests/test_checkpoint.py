"""Checkpoints: all comes back as it was, or an error; the old file outlives any failure."""

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import REMOVED, output_of, put, run_code, use_threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastoptim as fo
from fastoptim.checkpoint import digest, files, header, tree
from fastoptim.checkpoint import file as checkpoint

pytest.importorskip("safetensors")
pytest.importorskip("xxhash")


def same(a, b):
    """Equal in type, value, order and bits."""
    if isinstance(a, np.ndarray):
        a = np.asarray(a)
        return (
            type(b) is np.ndarray
            and b.dtype == a.dtype.newbyteorder("=")
            and a.shape == b.shape
            and a.astype(b.dtype).tobytes() == b.tobytes()
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a == b


def small():
    return {
        "rule": "Adam",
        "é": (1, -0.0, None, [True, math.inf]),
        ("W", 1): np.arange(6, dtype=np.float32).reshape(2, 3),
        2: {"__metadata__": np.array(3.0), "": np.zeros((0, 3), np.float32)},
    }


def listing(folder):
    return sorted(os.listdir(folder))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.ckpt"


@pytest.fixture
def old(path):
    """A checkpoint that is already there."""
    checkpoint.save(path, "old")
    return path


@pytest.fixture(params=["separate", "packed"])
def layout(request, monkeypatch):
    """Either format: the arrays as tensors of their own, or one behind the other."""
    if request.param == "packed":
        monkeypatch.setattr(checkpoint, "LONG_HEADER", -1)
    return request.param


def assert_untouched(old):
    assert checkpoint.load(old) == "old"
    assert listing(old.parent) == [old.name]


# ---- what goes in comes out

floats = st.floats(allow_nan=True, allow_infinity=True)
texts = st.text(st.characters(), max_size=8) | st.sampled_from(["__metadata__", "", "0", "a/b"])
plain = st.none() | st.booleans() | st.integers() | floats | texts
keys = st.recursive(plain, lambda k: st.tuples(k, k) | st.tuples(k), max_leaves=4)
arrays = hnp.arrays(
    st.sampled_from(["<f4", "<f8", ">f4", ">f8"]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@st.composite
def views(draw):
    """An array in some layout: strided, reversed, transposed."""
    a = draw(arrays)
    a = a[tuple(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in a.shape)]
    return a.transpose(draw(st.permutations(range(a.ndim)))) if isinstance(a, np.ndarray) else a


trees = st.recursive(
    plain | arrays | views().filter(lambda a: isinstance(a, np.ndarray)),
    lambda t: st.lists(t, max_size=4)
    | st.lists(t, max_size=4).map(tuple)
    | st.dictionaries(keys, t, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(trees)
def test_round_trip(tmp_path, layout, value):
    checkpoint.save(tmp_path / "any", value)
    assert same(value, checkpoint.load(tmp_path / "any"))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4)[:, ::-2, 1:],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
        np.broadcast_to(np.float32(3), (2, 2)),
        np.array(3, ">f4"),
        np.array(3.0),
        np.zeros((3, 0), np.float32),
        np.arange(4.0).reshape(2, 2).view(np.matrix).T,
        np.frombuffer(b"x" + np.arange(3.0).tobytes(), np.uint8)[1:].view(np.float64),
        np.array([math.nan, -0.0, math.inf, 5e-324]),
    ],
    ids=range(10),
)
def test_layouts(path, layout, array):
    checkpoint.save(path, [array, array])
    first, second = checkpoint.load(path)
    assert same(array, first)
    assert same(array, second)
    assert first.flags.writeable
    assert first.flags.aligned
    assert first.flags.forc
    assert not np.shares_memory(first, second)


def test_fortran_order_is_kept(path, layout):
    checkpoint.save(path, np.asfortranarray(np.ones((2, 3))))
    assert checkpoint.load(path).flags.f_contiguous


def test_memmap(path, tmp_path):
    mapped = np.memmap(tmp_path / "map", np.float32, "w+", shape=(5,))
    mapped[:] = range(5)
    checkpoint.save(path, mapped)
    assert same(np.arange(5, dtype=np.float32), checkpoint.load(path))


def test_many_pieces_and_threads(path, layout):
    """Arrays longer than a piece; the digest is the same for any number of threads."""
    rng = np.random.default_rng(0)
    value = {i: rng.random(n) for i, n in enumerate([3_000_000, 131_072, 131_073, 1, 0])}
    digests = set()
    for n in (1, 2, 7):
        use_threads(n)
        checkpoint.save(path, value)
        digests.add(re.search(rb'"digest":"(\w+)"', path.read_bytes()[:10_000])[1])
        assert same(value, checkpoint.load(path))
    assert len(digests) == 1


def test_it_is_a_safetensors_file(path):
    from safetensors.numpy import load_file

    checkpoint.save(path, {"__metadata__": np.ones(2), "x": np.arange(6.0).reshape(2, 3)[:, ::2]})
    tensors = load_file(path)
    assert sorted(tensors) == ["0", "1"]
    assert tensors["1"].tolist() == [[0, 2], [3, 5]]


def test_many_arrays(path):
    """An optimizer of very many keys: a header would be longer than safetensors allows.

    The files of few keys stay what they were, a tensor for each array.
    """
    from safetensors.numpy import load_file

    opt, n = fo.Adam(), 6_000
    params = {f"layer.{i}": np.full(1 + i % 3, i, np.float32) for i in range(n)}
    params["last"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    opt.update(params, {key: p.copy(order="K") for key, p in params.items()})
    opt.save(path)
    other = fo.Adam()
    other.load(path)
    assert same(opt.state_dict(), other.state_dict())
    tensors = load_file(path)
    assert sorted(tensors) == ["float32", "float64", "tree"]
    assert tensors["float32"].shape == (2 * sum(p.size for p in params.values()) - 12,)
    assert tensors["float64"].shape == (12,)
    assert int.from_bytes(path.read_bytes()[:8], "little") < 1000
    few = fo.Adam()
    few.update({"W": np.ones(2)}, {"W": np.ones(2)})
    few.save(path)
    assert sorted(load_file(path)) == ["0", "1"]


def test_the_arrays_of_a_packed_file_are_apart(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "LONG_HEADER", -1)
    checkpoint.save(path, [np.ones(2), np.ones(0), np.ones((2, 2))])
    one, _, other = checkpoint.load(path)
    one += 1
    other *= 3
    assert same([np.full(2, 2.0), np.full((2, 2), 3.0)], [one, other])


def test_a_file_of_the_first_release(path):
    """As it was written then, byte for byte."""
    header = rb'''{"__metadata__":{
"digest":"924a538a38f9114ab525285aa693b96388870aa2d31fa2fad35ea099cf4189f6",
"library_version":"0.1.0",
"tree":"{\"dict\":[[\"\\u00e9\",[1,-0.0,null]],[{\"tuple\":[\"W\",1]},
{\"array\":[\"float32\",[2],\"C\"]}]]}",
"format":"fastoptim checkpoint","format_version":"1"},
"0":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'''.replace(b"\n", b"")
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 0, 1))
    value = {"é": [1, -0.0, None], ("W", 1): np.arange(2, dtype=np.float32)}
    assert same(value, checkpoint.load(path))


@pytest.mark.parametrize(
    "value", [10**5000, -(10**5000), 2**63, -(2**63)], ids=["5,001 digits", "negative", "63", "-63"]
)
def test_huge_int(path, value):
    """Beyond the number of decimal digits that Python reads."""
    checkpoint.save(path, {value: value})
    assert checkpoint.load(path) == {value: value}


def test_nan_keys(path):
    checkpoint.save(path, {math.nan: 1, float("nan"): 2, (math.nan,): 3})
    assert list(checkpoint.load(path).values()) == [1, 2, 3]


# ---- what cannot go in


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {2}]}, r"tree\['a'\]\[1\] must be"),
        ({"a": {("b", 1): np.arange(3)}}, r"tree\['a'\]\[\('b', 1\)\] must be an array of float32"),
        ((np.float64(1),), r"tree\[0\] must be .* got numpy.float64"),
        ([Text("x")], r"tree\[0\] must be .*Text"),
        ([1j], r"tree\[0\] must be"),
        ([b"x"], r"tree\[0\] must be"),
        ([np.ones(2, complex)], r"tree\[0\] must be an array of float32 or float64"),
        ([np.ones(2, np.float16)], r"tree\[0\] must be an array"),
        ([np.array([None])], r"tree\[0\] must be an array"),
        ([np.zeros(2, "f4,f4")], r"tree\[0\] must be an array"),
        ([np.ma.masked_array([1.0], [True])], r"tree\[0\] must be .*MaskedArray"),
        ({b"x": 1}, r"the key of tree\[b'x'\] must be"),
        ({("a", (b"x",)): 1}, r"the key of tree\[\('a', \(b'x',\)\)\] must be"),
        ({np.int64(1): 1}, r"the key of tree\[.*1.*\] must be"),
        (object(), "tree must be"),
    ],
)
def test_wrong_types(old, value, place):
    with pytest.raises(TypeError, match=place):
        checkpoint.save(old, value)
    assert_untouched(old)


def test_cycle_and_depth(old):
    cycle = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        checkpoint.save(old, {"a": cycle})
    assert_untouched(old)
    deep = 1.0
    for _ in range(tree.DEPTH):
        deep = {"x": deep}
    checkpoint.save(old, deep)
    assert same(deep, checkpoint.load(old))


def test_a_long_header_is_never_written(path, monkeypatch):
    """Whatever is long lies in the file's tensors: the reader refuses longer headers."""
    monkeypatch.setattr(checkpoint, "LONG_HEADER", 2000)
    monkeypatch.setattr(header, "LONGEST_HEADER", 2600)
    one = np.ones(1)
    for value in ("x" * 900, "x" * 5000, '"' * 950, '"' * 1100, [one] * 9, [one] * 99):
        checkpoint.save(path, value)
        assert same(value, checkpoint.load(path))


@pytest.mark.parametrize("missing", ["safetensors", "xxhash"])
def test_extra_is_not_installed(old, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    for call in (lambda: checkpoint.save(old, 1), lambda: checkpoint.load(old)):
        with pytest.raises(ImportError, match=r"pip install 'fastoptim\[checkpoint\]'"):
            call()


# ---- damage


def refused(path):
    """The message of a ValueError that names the file and says what to do."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as info:
        checkpoint.load(path)
    message = str(info.value)
    assert "load another copy" in message or "use the version" in message
    return message


def test_truncated_at_every_byte_of_a_small_file(path, layout):
    checkpoint.save(path, small())
    data = path.read_bytes()
    for n in range(len(data)):
        path.write_bytes(data[:n])
        message = refused(path)
        assert ("is truncated: it has" if n >= 8 else "is not a checkpoint") in message


def test_truncated_at_every_kilobyte(path):
    checkpoint.save(path, {"x": np.ones(20_000)})
    for n in range(path.stat().st_size // 1024 * 1024, 0, -1024):
        os.truncate(path, n)
        assert f"is truncated: it has {n} bytes, there should be" in refused(path)


def test_every_bit_of_a_small_file(path, layout):
    checkpoint.save(path, small())
    data = bytearray(path.read_bytes())
    with open(path, "r+b", buffering=0) as file:
        for at in range(len(data)):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([data[at] ^ (1 << bit)]), at)
                refused(path)
            os.pwrite(file.fileno(), data[at : at + 1], at)
    assert same(small(), checkpoint.load(path))


def test_flips_and_exchanged_pieces_of_a_big_file(path):
    value = np.arange(600_000.0)
    checkpoint.save(path, value)
    data = path.read_bytes()
    start = len(data) - value.nbytes
    rng = np.random.default_rng(0)
    for at in [start, start + (1 << 20) - 1, start + (1 << 20), len(data) - 1,
               *rng.integers(start, len(data), 20)]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert "does not match its digest" in refused(path)
    one, two = data[start : start + (1 << 20)], data[start + (1 << 20) : start + (2 << 20)]
    path.write_bytes(data[:start] + two + one + data[start + (2 << 20) :])
    assert "does not match its digest" in refused(path)
    path.write_bytes(data[:start] + bytes(value.nbytes))
    assert "does not match its digest" in refused(path)


@pytest.mark.parametrize("extra", [b"\0", b"x" * 5000])
def test_appended(path, extra):
    checkpoint.save(path, small())
    with open(path, "ab") as file:
        file.write(extra)
    assert f"{len(extra)} bytes follow the end" in refused(path)


def header_of(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])


def write_header(path, header):
    """Write a file again with another header."""
    data = path.read_bytes()
    tensors = data[8 + int.from_bytes(data[:8], "little") :]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)


def change_header(path, *place, value):
    header = header_of(path)
    put(header, place, value)
    write_header(path, header)


@pytest.mark.parametrize("number", ["0", "9", "", "x"])
def test_another_format_version(path, number):
    checkpoint.save(path, small())
    change_header(path, "__metadata__", "format_version", value=number)
    message = refused(path)
    assert f"format {number!r}, written by fastoptim {fo.__version__!r}" in message
    assert "reads formats '1' to '8': use the version that wrote it, or a newer" in message


def test_one_format_for_the_other(path, layout):
    checkpoint.save(path, small())
    other = "1" if layout == "packed" else "2"
    change_header(path, "__metadata__", "format_version", value=other)
    assert "its metadata is not that of a checkpoint" in refused(path)


@pytest.mark.parametrize("name", ["library_version", "tree", "digest"])
def test_metadata_changed_or_missing(path, name):
    checkpoint.save(path, [1, 2])
    text = header_of(path)["__metadata__"][name]
    change_header(path, "__metadata__", name, value=text + " ")
    refused(path)
    change_header(path, "__metadata__", name, value=text)
    assert checkpoint.load(path) == [1, 2]
    change_header(path, "__metadata__", name, value=REMOVED)
    refused(path)


def resigned(path, text):
    """Give a file another tree, with the digest that belongs to it."""
    header = header_of(path)
    metadata = header["__metadata__"]
    metadata["tree"] = text
    metadata["digest"] = digest.digest_of(metadata, [])
    write_header(path, header)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "{}", '{"tuple":[1],"tuple":[2]}', '{"dict":[],"tuple":[]}', '{"set":[]}',
        '{"dict":[[1]]}',
        '{"dict":[[[1],2]]}', '{"float":[]}', '{"int":3}', '{"tuple":3}',
        '{"array":["float32",[2],"C"]}', '{"array":["object",[2],"C"]}', '{"array":3}',
        '{"object":["schedule",1]}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_trees_that_save_does_not_write(path, text):
    checkpoint.save(path, 1)
    resigned(path, text)
    assert "is damaged" in refused(path)


def forged(path, text, **packs):
    """Write a packed file with another tree or other arrays, and the digest that belongs to it."""
    from safetensors.numpy import save_file

    tensors = {"tree": np.frombuffer(text.encode(), np.uint8), **packs}
    metadata = {"format": header.FORMAT, "format_version": "2", "library_version": "0"}
    flat = [digest.bytes_of(a) for a in tensors.values()]
    hashes = digest.hashes_of([a.nbytes for a in flat], digest.from_memory(flat))
    metadata["digest"] = digest.digest_of(metadata, hashes)
    save_file(tensors, path, metadata=metadata)


ONE = '{"array":["float32",[1],"C"]}'
FORGED = {
    "right": (f"[{ONE}]", {"float32": np.ones(1, np.float32)}, None),
    "too many": ("[]", {"float32": np.ones(1, np.float32)}, "an array belongs nowhere"),
    "too few": (f"[{ONE},{ONE}]", {"float32": np.ones(1, np.float32)}, "cannot reshape"),
    "other dtype": (f"[{ONE}]", {"float64": np.ones(1)}, "float32"),
    "no tensor of it": (f"[{ONE}]", {"int8": np.ones(1, np.int8)}, "its arrays are not those"),
    "two axes": (f"[{ONE}]", {"float32": np.ones((1, 1), np.float32)}, "its arrays are not those"),
    "wrong type": (f"[{ONE}]", {"float32": np.ones(1)}, "its arrays are not those"),
    "huge": (ONE.replace("1]", "0,1" + 30 * "0" + "]"), {}, "float32"),
    "huge, empty": (
        f'[{ONE},{ONE.replace("[1]", "[0,1" + 30 * "0" + "]")}]',
        {"float32": np.ones(1, np.float32)}, "is damaged",
    ),
    "not ASCII": ('"é"', {}, "ascii"),
}


@pytest.mark.parametrize("name", FORGED)
def test_packed_files_that_save_does_not_write(path, name):
    text, packs, message = FORGED[name]
    forged(path, text, **packs)
    if message is None:
        assert same([np.ones(1, np.float32)], checkpoint.load(path))
    else:
        assert message in refused(path)


def test_arrays_that_belong_nowhere(path):
    checkpoint.save(path, [np.ones(1)])
    resigned(path, "[]")
    assert "an array belongs nowhere" in refused(path)


@pytest.mark.parametrize(
    "name", [b'"format":"fastoptim checkpoint",', b'"format_version":"1",', b'"dtype":"F64",']
)
def test_duplicate_names_in_the_header(path, name):
    checkpoint.save(path, [np.ones(1)])
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    before = b'"0":{' if b"dtype" in name else b'"__metadata__":{'
    header = header.replace(before, before + name)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    refused(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("0", "shape"), [0, 5]),  # still of no bytes
        (("1", "shape"), [4]),
        (("1", "data_offsets"), [0, 8]),
        (("1", "data_offsets"), ["0", 16]),
        (("1", "data_offsets"), None),
        (("1", "dtype"), "F32"),
        (("0",), REMOVED),
        (("__metadata__",), 3),
    ],
)
def test_header_that_is_not_ours(path, place, value):
    checkpoint.save(path, [np.ones((0, 3)), np.ones(2)])
    change_header(path, *place, value=value)
    refused(path)


def test_a_tensor_of_another_name(path):
    checkpoint.save(path, [np.ones((0, 3)), np.ones(2)])
    change_header(path, "2", value=header_of(path)["1"])
    change_header(path, "1", value=REMOVED)
    refused(path)


def test_a_header_that_is_no_dict(path):
    checkpoint.save(path, [np.ones((0, 3)), np.ones(2)])
    write_header(path, [header_of(path)])
    refused(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, b"PK\3\4" * 50, b"\xff" * 100, struct.pack("<Q", 2) + b"{}",
     struct.pack("<Q", 2) + b"{]", struct.pack("<Q", 20_000) + b"[" * 20_000],
)
def test_other_files(path, data):
    path.write_bytes(data)
    assert "is not a checkpoint of fastoptim" in refused(path)


def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    assert "is not a checkpoint of fastoptim" in refused(path)


@pytest.mark.parametrize("number", [b"[]", b"{}", b"1", b"null"])
def test_a_format_that_is_no_text(path, number):
    head = b'{"__metadata__":{"format":"fastoptim checkpoint","format_version":' + number + b"}}"
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    assert "is not a checkpoint of fastoptim" in refused(path)


def test_a_safetensors_file_of_someone_else(path):
    from safetensors.numpy import save_file

    save_file({"x": np.ones(3)}, path, metadata={"format": "pt"})
    assert "is not a checkpoint of fastoptim" in refused(path)


def test_missing_and_folder(path, tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        checkpoint.load(path)
    assert info.value.filename == str(path)
    for call in (checkpoint.load, lambda p: checkpoint.save(p, 1)):
        with pytest.raises(IsADirectoryError) as info:
            call(tmp_path)
        assert info.value.filename == str(tmp_path)
    beyond = tmp_path / "no" / "a"
    with pytest.raises(FileNotFoundError) as info:
        checkpoint.save(beyond, 1)
    assert info.value.filename == str(beyond)
    assert listing(tmp_path) == []


# ---- writing


def calls_of(monkeypatch, *names):
    """The calls of functions of os, in order."""
    seen = []
    for name in names:
        real = getattr(os, name)

        def spy(*args, name=name, real=real, **more):
            result = real(*args, **more)
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            seen.append(f"{name} folder" if is_folder else name)
            return result

        monkeypatch.setattr(os, name, spy)
    return seen


def test_flushed_before_the_name_and_after(old, monkeypatch):
    seen = calls_of(monkeypatch, "fsync", "replace")
    checkpoint.save(old, "new")
    assert seen == ["fsync", "replace", "fsync folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["mkdir", "open", "chmod", "fsync", "preadv", "replace"])
def test_failure_at_every_stage(old, monkeypatch, name, number):
    real = getattr(os, name)

    def fail(file, *args, **more):
        if name == "open" and stat.S_ISDIR(os.stat(file).st_mode):
            return real(file, *args, **more)
        raise OSError(number, os.strerror(number), "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        if name == "open":  # of the interpreter, which the private file is opened with
            patch.setattr("builtins.open", fail)
        with pytest.raises(OSError, match=re.escape(os.strerror(number))) as info:
            checkpoint.save(old, small())
    assert info.value.errno == number
    assert info.value.filename == str(old)
    assert_untouched(old)


def test_full_disk_at_every_size(old):
    """RLIMIT_FSIZE ends a write as a full disk does, wherever the library happens to write."""
    code = f"""
        import errno, os, resource
        import numpy as np
        from fastoptim.checkpoint import file as checkpoint
        tree = {{"x": np.ones(3000), "y": np.ones(1000)}}
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in [0, 1, 7, 8, 9, *range(500, 32500, 1000)]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                checkpoint.save({str(old)!r}, tree)
            except OSError as error:
                assert error.errno == errno.EFBIG, error
                assert error.filename == {str(old)!r}
            else:
                raise SystemExit(f"saved within {{limit}} bytes")
            assert checkpoint.load({str(old)!r}) == "old"
            assert os.listdir({str(old.parent)!r}) == [{old.name!r}]
    """
    output_of(code)
    assert_untouched(old)


@contextlib.contextmanager
def bound_by_permissions():
    """Root writes anywhere on Linux by a capability, which this thread lays down meanwhile."""
    if os.geteuid() or sys.platform != "linux":
        yield
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, of this thread
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    assert libc.capget(header, before) == 0
    without[:] = before
    without[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE, of those in effect
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def test_read_only_folder(old):
    os.chmod(old.parent, 0o500)
    try:
        with bound_by_permissions(), pytest.raises(PermissionError) as info:
            checkpoint.save(old, 1)
    finally:
        os.chmod(old.parent, 0o700)
    assert info.value.filename == str(old)
    assert_untouched(old)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # its last reference goes
def test_interrupted_at_every_line(path):
    """Wherever the interrupt comes, it leaves the old file or the new one, and nothing beside it.

    The lines are those of the library, and of the contexts that it enters.
    """
    ours = {m.__file__ for m in (checkpoint, digest, files, header, contextlib)}
    stop, line = 0, 0

    def trace(frame, event, _):
        nonlocal line
        if frame.f_code.co_filename not in ours:
            return None
        if event == "line":
            line += 1
            if line == stop:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    checkpoint.save(path, 0)
    interrupted = True
    while interrupted:
        stop, line, interrupted = stop + 1, 0, False
        sys.settrace(trace)
        try:
            checkpoint.save(path, stop)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(before)
        assert listing(path.parent) == [path.name], stop
        assert checkpoint.load(path) in (stop, stop - 1, 0), stop
    assert stop > 100


def test_interrupted(old, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "from_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(old, small())
    assert_untouched(old)


def test_array_that_changes_meanwhile(old, monkeypatch, layout):
    import safetensors.numpy

    x = np.zeros(3)
    real = safetensors.numpy.save_file

    def save_file(*args, **more):
        x[1] = 1
        real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", save_file)
        with pytest.raises(RuntimeError, match="changed while it was being saved"):
            checkpoint.save(old, x)
    assert_untouched(old)


def test_permissions(path, tmp_path):
    before = os.umask(0o027)
    try:
        checkpoint.save(path, 1)
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    os.chmod(path, 0o604)
    checkpoint.save(path, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_symbolic_links(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "file"
    link.symlink_to(Path("there", "file"))
    for value in (1, 2):  # one that dangles, then one that does not
        checkpoint.save(link, value)
        assert link.is_symlink()
        assert checkpoint.load(link) == checkpoint.load(target) == value
    assert listing(tmp_path) == ["link", "there"]
    assert listing(tmp_path / "there") == ["file"]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ELOOP))):
        checkpoint.save(loop, 1)
    assert loop.is_symlink()


@pytest.mark.parametrize("name", ["new/", "new//", "new/.", "new/..", ".", "..", "there/"])
def test_a_name_of_a_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkdir("there")
    with pytest.raises(IsADirectoryError, match="names a folder; add the file's name") as info:
        checkpoint.save(name, 1)
    assert info.value.filename == name
    assert listing(tmp_path) == ["there"]
    assert listing(tmp_path / "there") == []


def test_not_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(OSError, match="Not a regular file"):
            checkpoint.save(name, 1)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("relative", os.fsdecode("é".encode() * 120), os.fsdecode(b"\xff"), "a b\n%s"):
        checkpoint.save(name, name.isascii())
        assert checkpoint.load(name) is name.isascii()
    assert len(listing(tmp_path)) == 4


KILLED = """
    import sys
    import numpy as np
    from fastoptim.checkpoint import file as checkpoint
    i = 0
    while True:
        i += 1
        checkpoint.save(sys.argv[1], {"i": i, "x": np.full(300_000, float(i))})
        print(i, flush=True)
"""


def test_killed_at_any_moment(path):
    """After kill -9 the file is the last one that was saved, or the one after it."""
    checkpoint.save(path, {"i": 0, "x": np.zeros(300_000)})
    rng = np.random.default_rng(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), path], stdout=subprocess.PIPE, text=True
        )
        said = process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        said += process.stdout.read()
        process.stdout.close()
        process.wait()
        last = int(said.split()[-1])
        value = checkpoint.load(path)
        assert value["i"] in (last, last + 1)
        assert (value["x"] == value["i"]).all()
        for name in listing(path.parent):
            assert name == path.name or re.fullmatch(r"\.a\.ckpt\..*\.tmp", name)
        for left in path.parent.glob(".a.ckpt.*.tmp"):
            shutil.rmtree(left)


def test_replaced_between_two_looks(path, tmp_path, monkeypatch):
    """The library must judge the very file that is read, not the one that has its name by now."""
    import safetensors

    checkpoint.save(path, [np.ones(2)])
    change_header(path, "0", "shape", value=[4])
    checkpoint.save(tmp_path / "newer", "newer")
    real = safetensors.safe_open

    def safe_open(*args, **more):
        if (tmp_path / "newer").exists():
            os.replace(tmp_path / "newer", path)
        return real(*args, **more)

    monkeypatch.setattr(safetensors, "safe_open", safe_open)
    assert checkpoint.load(path) == "newer"


def test_many_save_and_load_one_file(path):
    """Whoever loads gets one whole checkpoint, and the last one to save has the file."""
    checkpoint.save(path, {"i": -1, "x": np.full(1000, -1.0)})
    errors = []
    done = threading.Event()

    def savers(i):
        try:
            for _ in range(20):
                checkpoint.save(path, {"i": i, "x": np.full(1000 + i, float(i))})
        except BaseException as error:
            errors.append(error)

    def loader():
        try:
            while not done.is_set():
                value = checkpoint.load(path)
                assert (value["x"] == value["i"]).all()
        except BaseException as error:
            errors.append(error)

    saving = [threading.Thread(target=savers, args=(i,)) for i in range(4)]
    loading = [threading.Thread(target=loader) for _ in range(2)]
    for thread in (*loading, *saving):
        thread.start()
    for thread in saving:
        thread.join()
    done.set()
    for thread in loading:
        thread.join()
    assert errors == []
    assert listing(path.parent) == [path.name]


def test_saving_when_the_interpreter_ends(path):
    code = f"""
        import atexit
        import numpy as np
        from fastoptim.checkpoint import file as checkpoint
        x = np.ones(3_000_000)
        @atexit.register
        def last():
            checkpoint.save({str(path)!r}, x)
            assert checkpoint.load({str(path)!r}).sum() == 3_000_000
            print("saved")
    """
    done = run_code(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "saved\n", "")


def test_digest_is_as_documented(path):
    """SHA-256 of the metadata's lines and of the XXH3 of each piece, in the order of the arrays."""
    from xxhash import xxh3_128_digest

    x, y = np.arange(200_000.0), np.ones(3, np.float32)
    checkpoint.save(path, [x, y])
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    names = ("format", "format_version", "library_version", "tree")
    content = "\n".join(metadata[name] for name in names).encode()
    raw = x.tobytes()
    for piece in (raw[: 1 << 20], raw[1 << 20 :], y.tobytes()):
        content += xxh3_128_digest(piece)
    assert metadata["digest"] == hashlib.sha256(content).hexdigest()
