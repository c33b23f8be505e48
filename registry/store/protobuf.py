"""The protocol-buffer wire format and TFRecord framing, reduced to the parts that the registry needs.

Sources: protobuf.dev/programming-guides/encoding; tensorflow/core/lib/io/record_writer.h (framing, masked CRC-32C).
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK_DELTA = 0xA282EAD8


def varint(value: int) -> bytes:
    """An integer as a varint; a negative integer as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(field: int, value: int) -> bytes:
    """An integer or enum field; empty for 0, the default."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def message(field: int, body: bytes) -> bytes:
    """A message or bytes field."""
    return varint(field << 3 | _BYTES) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """A string field; empty for the empty string, the default."""
    return message(field, value.encode()) if value else b""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field numbers and values of a message in order; raises ``ValueError`` for malformed bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at} is unknown")
        if at + size > len(data):
            raise ValueError(f"a field of {size} bytes at byte {at} is cut off")
        chunk = data[at : at + size]
        at += size
        yield key >> 3, chunk if kind == _BYTES else int.from_bytes(chunk, "little")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"a number at byte {at} is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # the Castagnoli polynomial, reflected
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), the check sum of protocol buffers that the store writes as TFRecord."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return (((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF).to_bytes(4, "little")


def tfrecord(data: bytes) -> bytes:
    """A TFRecord of a protocol buffer: length, its masked CRC, the data, its masked CRC."""
    length = len(data).to_bytes(8, "little")
    return length + _masked(length) + data + _masked(data)


def read_tfrecords(data: bytes) -> Iterator[bytes]:
    """Yield the protocol buffers of a TFRecord file; raises ``ValueError`` for a damaged record."""
    at = 0
    while at < len(data):
        length, check = data[at : at + 8], data[at + 8 : at + 12]
        size = int.from_bytes(length, "little")
        body = data[at + 12 : at + 12 + size]
        if check != _masked(length) or data[at + 12 + size : at + 16 + size] != _masked(body):
            raise ValueError(f"the record at byte {at} is damaged")
        yield body
        at += 16 + size
