"""CRC-32C (Castagnoli) of many records at once, in NumPy; TFRecord guards each record with it.

A checksum with start value 0 is linear, and leading zeros do not change it. So records are padded in front to whole
lanes of 64 bytes, all lanes advance together by two bytes per operation, and the state of each lane is advanced over
the bytes that follow the lane, and all states are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

_POLYNOMIAL = np.uint32(0x82F63B78)  # reflected (RFC 3720, appendix B.4)
_LANE = 64
_LANES_AT_ONCE = 4096  # their words and states stay in a core's cache
_GROUP = 16  # lanes that large records join in pairs first
_LARGE = 4096  # bytes of a record
_ONES = np.uint32(0xFFFFFFFF)
_BYTE = np.uint32(0xFF)
_MASK_DELTA = np.uint32(0xA282EAD8)  # TensorFlow's crc32c.h: stored checksums are rotated and shifted


def masked_checksums(records: Sequence[bytes]) -> np.ndarray:
    """Return uint32[n]: the checksum of each record as TFRecord files store it.

    >>> hex(int(masked_checksums([b"123456789"])[0]))
    '0xc78ab0e5'
    """
    found = checksums(records)
    return ((found >> np.uint32(15)) | (found << np.uint32(17))) + _MASK_DELTA


def checksums(records: Sequence[bytes]) -> np.ndarray:
    """Return uint32[n]: the CRC-32C of each record.

    >>> [hex(value) for value in checksums([b"123456789", b"a", b""]).tolist()]
    ['0xe3069283', '0xc1d04330', '0x0']
    """
    if not records:
        return np.zeros(0, np.uint32)
    lengths = np.array([len(record) for record in records], np.int64)
    group = _GROUP if lengths.mean() > _LARGE else 1
    groups = np.maximum(-(-lengths // (_LANE * group)), 1)
    ends = np.cumsum(groups) * _LANE * group
    padding = (groups * _LANE * group - lengths).tolist()
    parts = (part for size, record in zip(padding, records, strict=True) for part in (bytes(size), record))
    data = np.frombuffer(bytearray().join(parts), np.uint8)
    # The register starts with ones: they are added to the first four bytes; a shorter record leaves the rest of them.
    for byte in range(4):
        data[(ends - lengths + byte)[lengths > byte]] ^= np.uint8(0xFF)
    states = _join_pairs(_advance_lanes(data.view("<u2").reshape(-1, _LANE // 2)), group)
    states = _join_groups(states, groups, _LANE * group)
    short = lengths < 4
    states[short] ^= _ONES >> (8 * lengths[short]).astype(np.uint32)
    return states ^ _ONES


def _advance_lanes(words: np.ndarray) -> np.ndarray:
    """Return the state of each lane (a row of words) after its last byte, from 0."""
    table, states = _two_byte_table(), np.zeros(len(words), np.uint32)
    for first in range(0, len(words), _LANES_AT_ONCE):
        here = states[first : first + _LANES_AT_ONCE]
        for column in np.ascontiguousarray(words[first : first + _LANES_AT_ONCE].T):
            here[:] = np.take(table, here.astype(np.uint16) ^ column, mode="clip") ^ (here >> np.uint32(16))
    return states


def _join_pairs(states: np.ndarray, group: int) -> np.ndarray:
    """Return the state of each ``group`` of neighbouring lanes, a power of 2."""
    size = _LANE
    while group > 1:
        states = _after_zeros(states[::2], size) ^ states[1::2]
        group, size = group // 2, size * 2
    return states


def _join_groups(states: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """Return the state of each record from those of its groups of ``size`` bytes."""
    ends = np.cumsum(groups)
    following = np.repeat(ends, groups) - 1 - np.arange(len(states))
    for bit in range(int(following.max()).bit_length()):
        moved = np.flatnonzero(following >> bit & 1)
        states[moved] = _after_zeros(states[moved], size << bit)
    return np.bitwise_xor.reduceat(states, ends - groups)


def _after_zeros(states: np.ndarray, count: int) -> np.ndarray:
    """Return the states after ``count`` more zero bytes, a power of 2."""
    low, second, third, high = _zeros_tables(count)
    return (
        low[states & _BYTE]
        ^ second[states >> np.uint32(8) & _BYTE]
        ^ third[states >> np.uint32(16) & _BYTE]
        ^ high[states >> np.uint32(24)]
    )


@cache
def _two_byte_table() -> np.ndarray:
    """Return uint32[65536]: the state after two bytes, from 0."""
    table = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        table = (table >> np.uint32(1)) ^ np.where(table & np.uint32(1), _POLYNOMIAL, np.uint32(0))
    return table


@cache
def _zeros_tables(count: int) -> np.ndarray:
    """Return uint32[4, 256]: what each byte of a state becomes after ``count`` zero bytes, a power of 2."""
    if count > 2:
        return np.stack([_after_zeros(row, count // 2) for row in _zeros_tables(count // 2)])
    # Two zero bytes push out the low half of the state and move the high half down.
    table, values = _two_byte_table(), np.arange(256, dtype=np.uint32)
    return np.stack([table[values], table[values << np.uint32(8)], values, values << np.uint32(8)])
