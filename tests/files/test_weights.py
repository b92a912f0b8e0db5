"""Weights as safetensors: what any reader sees, what a broken file says, what a failure leaves behind."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import trine
from trine.errors import DTypeError, FileAccessError, FileFormatError
from trine.files import backup, weights

SHAPES = [(), (0,), (3,), (2, 0, 3), (4, 5)]


def message(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """The error without the line of the test and the directory."""
    return "\n".join(line for line in str(caught.value).splitlines() if not line.startswith("  at "))


@pytest.mark.parametrize("dtype", [d.name for d in trine.dtypes.ALL])
def test_every_data_type_and_shape_comes_back_bit_by_bit(tmp_path: Path, dtype: str) -> None:
    kind = trine.dtypes.dtype(dtype)
    rng = np.random.default_rng(0)
    arrays = {}
    for i, shape in enumerate(SHAPES):
        size = int(np.prod(shape)) * kind.itemsize
        bits = rng.integers(0, 2 if dtype == "bool" else 256, size, dtype=np.uint8)
        arrays[f"part.{i}"] = bits.view(kind.numpy).reshape(shape)
    arrays["transposed"] = arrays["part.4"].T
    trine.save_weights(tmp_path / "w", arrays)
    back = trine.load_weights(tmp_path / "w")
    assert sorted(back) == sorted(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape, back[name].tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert not back[name].flags.writeable


def test_tensors_are_written_and_other_readers_see_them(tmp_path: Path) -> None:
    trine.save_weights(tmp_path / "w", {"a.kernel": trine.ones((2, 3)) * 2, "b": np.arange(3)})
    seen = safetensors.numpy.load_file(tmp_path / "w")
    assert seen["a.kernel"].tolist() == [[2.0] * 3] * 2
    assert seen["b"].tolist() == [0, 1, 2]


def test_files_of_other_writers_are_read(tmp_path: Path) -> None:
    arrays = {"x": np.eye(3, dtype=np.float16), "y": np.ones(4, ml_dtypes.bfloat16)}
    safetensors.numpy.save_file(arrays, tmp_path / "w", metadata={"format": "np"})
    back = trine.load_weights(tmp_path / "w")
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    metadata = {f"key {i}": 'ü\n"\\' for i in range(20)}
    for name in ("a", "b"):
        weights.write(tmp_path / name, {"x": np.ones(3), "é": np.zeros(2, np.int8)}, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert weights.read_file("load", tmp_path / "a").metadata == metadata


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DTypeError) as caught:
        trine.save_weights(tmp_path / "w", {"names": np.array(["a"])})
    assert message(caught) == (
        "save_weights: weights are arrays of numbers by name\n  got: 'names': <U1\n  try: model.state_dict()"
    )
    assert not list(tmp_path.iterdir())


# -- Broken files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    trine.save_weights(path, {"kernel": np.arange(12.0).reshape(3, 4), "bias": np.zeros(4, np.float32)})
    return path


def test_a_file_cut_short_anywhere_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            trine.load_weights(file)


def test_a_file_cut_short_says_by_how_much(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(FileFormatError) as caught:
        trine.load_weights(file)
    assert message(caught) == (
        f"load_weights: {file}: the file is cut short: {len(whole) - 7} bytes of {len(whole)}\n"
        f"  got: {len(whole) - 7} bytes, which begin with {whole[:12]!r}\n"
        "  try: a complete copy of the file"
    )


def test_damage_in_the_header_is_refused_or_seen(file: Path) -> None:
    """A byte of the header is exchanged: never anything but FileFormatError, or arrays."""
    whole = file.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for place in range(end):
        for byte in (0x22, 0xFF):
            file.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            try:
                back = trine.load_weights(file)
            except FileFormatError:
                continue
            assert all(isinstance(array, np.ndarray) for array in back.values())


FOREIGN = [b"", b"PK\x03\x04 a zip archive of weights", b"\x89HDF\r\n\x1a\n" + bytes(100), bytes(64)]


@pytest.mark.parametrize("data", FOREIGN)
def test_a_foreign_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "w"
    path.write_bytes(data)
    with pytest.raises(FileFormatError):
        trine.load_weights(path)
    with pytest.raises(FileFormatError):
        trine.load(path)


def test_a_foreign_file_says_how_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"PK\x03\x04 a zip archive of weights")
    with pytest.raises(FileFormatError) as caught:
        trine.load_weights(path)
    assert message(caught) == (
        f"load_weights: {path}: this is no file of Trine, and no safetensors file\n"
        "  got: 29 bytes, which begin with b'PK\\x03\\x04 a zip a'"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError) as caught:
        trine.load_weights(tmp_path / "none" / "w")
    assert message(caught) == (
        f"load_weights: {tmp_path}/none/w cannot be read: No such file or directory\n"
        f"  got: {tmp_path}/none/w\n"
        f"  try: the directory {tmp_path}/none does not exist either"
    )


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot be read: Is a directory"):
        trine.load_weights(tmp_path)
    with pytest.raises(FileAccessError, match="cannot be written: Is a directory"):
        trine.save_weights(tmp_path, {"x": np.ones(3)})


# -- Writing that fails ------------------------------------------------------------------------------------------------


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError) as caught:
        trine.save_weights(tmp_path / "none" / "w", {"x": np.ones(3)})
    assert message(caught) == (
        f"save: {tmp_path}/none/w cannot be written: No such file or directory\n"
        f"  got: {tmp_path}/none/w\n"
        "  try: make the directory first"
    )


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs a directory that nobody may write to")
def test_a_directory_that_cannot_be_written_is_named() -> None:
    with pytest.raises(FileAccessError) as caught:
        trine.save_weights("/proc/self/w", {"x": np.ones(3)})
    assert message(caught).startswith("save: /proc/self/w cannot be written: ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device without room")
def test_a_full_disk_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def no_room(arrays: object, path: Path, metadata: object) -> None:
        with open("/dev/full", "wb") as full:
            full.write(bytes(1))

    monkeypatch.setattr(weights, "save_file", no_room)
    with pytest.raises(FileAccessError, match="No space left on device"):
        trine.save_weights(file, {"x": np.ones(3)})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_interrupt_while_writing_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_sort_header", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trine.save_weights(file, {"x": np.ones(3)})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# -- Backups -----------------------------------------------------------------------------------------------------------


def handles() -> dict[str, trine.Tensor]:
    return {
        "w": trine.asarray(np.ones((2, 3), np.float32), requires_grad=True),
        "steps": trine.asarray(np.int64(3)),
        "random": trine.asarray(np.array([1, 2], np.uint64)),
    }


def test_a_backup_gives_all_handles_their_values_back(tmp_path: Path) -> None:
    old = handles()
    old["w"].assign((old["w"] * 5).detach())
    backup.write(tmp_path / "b", old, 4)
    new = handles()
    assert backup.read(tmp_path / "b", new) == 4
    assert all(np.array_equal(new[name].numpy(), old[name].numpy()) for name in old)
    assert new["w"].is_leaf and new["w"].requires_grad and not new["steps"].requires_grad
    (new["w"] * 2).sum().backward()
    assert new["w"].grad is not None and new["w"].grad.tolist() == [[2.0] * 3] * 2


def test_a_backup_of_something_else_changes_nothing(tmp_path: Path) -> None:
    other = handles() | {"w": trine.zeros((4, 4))}
    backup.write(tmp_path / "b", other, 1)
    mine = handles()
    with pytest.raises(FileFormatError) as caught:
        backup.read(tmp_path / "b", mine)
    assert message(caught) == (
        f"restore: {tmp_path}/b: w is f32[2, 3], the backup has float32[4, 4]\n"
        "  got: w\n"
        "  try: another path, or delete the file to start anew"
    )
    with pytest.raises(FileFormatError, match="1 names are missing, 0 are unknown"):
        backup.read(tmp_path / "b", mine | {"more": trine.zeros(())})
    assert mine["steps"].item() == 3 and mine["w"].tolist() == [[1.0] * 3] * 2


def test_weights_are_no_backup(file: Path) -> None:
    with pytest.raises(FileFormatError, match="this is no backup of a run"):
        backup.read(file, handles())
