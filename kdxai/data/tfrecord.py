"""TFRecord files, the format in which TFDS stores by default, without TensorFlow."""

import mmap
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

BLOCK = 4096  # bytes whose checksum is computed at once


class TFRecords:
    """The records of some files, in order, as a sequence of bytes.

    Of every record a file has the length (8 bytes) and its checksum (4), the content, and its
    checksum (4).
    """

    def __init__(self, paths: Iterable[str | Path]):
        """Find where each record of the files begins.

        Raises:
          ValueError: a file ends within a record.
        """
        self._records = [part for path in paths for part in _records(path)]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> bytes:
        """The content of a record.

        Raises:
          ValueError: the content does not fit its checksum.
        """
        record = self._records[i]
        if masked_crc32c(record[:-4]) != int.from_bytes(record[-4:], "little"):
            raise ValueError(f"record {i} does not fit its checksum")
        return bytes(record[:-4])

    def __getitems__(self, numbers: Sequence[int]) -> list[bytes]:
        return [self[i] for i in numbers]


def _records(path: str | Path) -> list[memoryview]:
    """Content and checksum of every record of a file, which stays on the disk."""
    with open(path, "rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    records, at = [], 0
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        records.append(content[at + 12 : at + size + 16])
        at += size + 16
    if at != len(content):
        raise ValueError(f"{path} ends within a record")
    return records


def masked_crc32c(content: bytes | memoryview) -> int:
    """The checksum of TFRecord: CRC-32C, rotated and moved so that one of a checksum differs."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes | memoryview) -> int:
    """CRC-32C (Castagnoli), through a table of what every byte of a block adds."""
    table, crc = _table(), 0xFFFFFFFF
    for start in range(0, len(content), BLOCK):
        block = np.frombuffer(content, np.uint8)[start : start + BLOCK].copy()
        size, head = len(block), np.frombuffer(crc.to_bytes(4, "little"), np.uint8)
        block[:4] ^= head[:size]
        added = np.bitwise_xor.reduce(table[BLOCK - size :][np.arange(size), block])
        crc = int(added) ^ (crc >> 8 * size if size < 4 else 0)
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> np.ndarray:
    """uint32 [BLOCK, 256]: by its place in a block and its value, what a byte adds."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = np.where(last & 1, (last >> 1) ^ np.uint32(0x82F63B78), last >> 1)
    rows = [last]
    while len(rows) < BLOCK:  # a byte before: a zero byte more behind it
        rows.append((rows[-1] >> 8) ^ last[rows[-1] & 255])
    return np.stack(rows[::-1])
