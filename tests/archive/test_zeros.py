"""Zeros: the frame that stands for them, and how they are found."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from onggi.archive import layout
from onggi.archive.zeros import data_runs, is_zero, zero_digest, zero_frame, zeros

BLOCK = 4096
LENGTHS = sorted(
    {n + d for n in (1, 256, 4096, 65_536, 65_792, 131_072, 131_073, 262_145, 2**20, 2**24)
     for d in (-1, 0, 1)} - {0, 2**24 + 1}
)  # fmt: skip


@pytest.mark.parametrize("length", LENGTHS)
def test_a_zero_frame_is_one_zstd_frame_of_zeros(length: int) -> None:
    frame = zero_frame(length)
    declared = zstandard.get_frame_parameters(frame)
    assert declared.content_size == length
    assert declared.has_checksum
    assert declared.dict_id == 0
    assert declared.window_size <= layout.MAX_WINDOW_BYTES
    content = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    assert content == bytes(length)
    assert zero_digest(length) == blake3(content).digest()
    assert len(frame) <= layout.max_stored_bytes(length)


@given(length=st.integers(1, 2**20))
@settings(max_examples=60)
def test_any_length_has_a_zero_frame(length: int) -> None:
    frame = zero_frame(length)
    assert zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False) == bytes(length)


@pytest.mark.needs("zstd")
def test_the_program_zstd_reads_zero_frames_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "zeros.zst"
    path.write_bytes(b"".join(map(zero_frame, LENGTHS)))
    assert shutil.which("zstd")
    subprocess.run(["zstd", "-tq", path], check=True)
    done = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True)
    assert len(done.stdout) == sum(LENGTHS)
    assert not any(done.stdout)


def test_zeros_cost_next_to_nothing() -> None:
    assert len(zero_frame(2**20)) == 49


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 4095, 4096, 4097, 100_000])
def test_a_single_byte_anywhere_is_not_zero(length: int) -> None:
    assert is_zero(memoryview(bytes(length)))
    for at in {0, 1, 62, 63, 64, 65, length // 2, length - 2, length - 1}:
        if 0 <= at < length:
            content = bytearray(length)
            content[at] = 1
            assert not is_zero(memoryview(content)), at


def test_zeros_are_shared() -> None:
    assert zeros(100) == bytes(100)
    assert zeros(100) is zeros(100)


def model_runs(content: bytes) -> list[tuple[int, int]]:
    """Return the runs as the docstring says, the plain way."""
    runs: list[tuple[int, int]] = []
    for at in range(0, len(content), BLOCK):
        block = content[at : at + BLOCK]
        if not any(block):
            continue
        if runs and runs[-1][1] == at:
            runs[-1] = (runs[-1][0], at + len(block))
        else:
            runs.append((at, at + len(block)))
    return runs


BLOCKS = {
    "0": bytes(BLOCK),
    "x": b"x" * BLOCK,
    "f": b"f" + bytes(BLOCK - 1),
    "l": bytes(BLOCK - 1) + b"l",
    "m": bytes(2000) + b"m" + bytes(BLOCK - 2001),
}


@given(letters=st.text("0xflm", max_size=12), tail=st.sampled_from([0, 1, 2, 100, BLOCK - 1]),
       last=st.sampled_from("0xflm"))  # fmt: skip
@settings(max_examples=200)
def test_runs_of_data_are_those_of_the_model(letters: str, tail: int, last: str) -> None:
    content = b"".join(BLOCKS[letter] for letter in letters) + BLOCKS[last][:tail]
    assert list(data_runs(content)) == model_runs(content)


@given(content=st.binary(max_size=300), at=st.integers(0, 3 * BLOCK))
def test_runs_of_data_hold_all_that_is_not_zero(content: bytes, at: int) -> None:
    whole = bytes(at) + content
    rebuilt = bytearray(len(whole))
    for start, end in data_runs(whole):
        rebuilt[start:end] = whole[start:end]
    assert rebuilt == whole
