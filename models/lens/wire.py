"""The wire format of protocol buffers, read in place and written (protobuf.dev, "Encoding").

Owns fields and where their values stand. Steps over a value by its length, so that of a file of
gigabytes the pages alone are read in which something is looked for. Knows no message.
"""

import mmap
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Buffer = bytes | mmap.mmap

# How a value is written: as a number, in eight bytes, behind its length, in four bytes.
NUMBER, EIGHT, BYTES, FOUR = 0, 1, 2, 5
_MOST_BITS = 70


class Field(NamedTuple):
    """A field of a message: its number, how it is written, and where.

    `begin` is where it begins itself, `start` and `stop` are the ends of its value.
    """

    number: int
    kind: int
    begin: int
    start: int
    stop: int


class WireError(ValueError):
    """What is there is no message."""


def list_fields(data: Buffer, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message that stands there, in their order. Raises WireError."""
    place = start
    while place < stop:
        begin = place
        tag, first = read_number(data, begin, stop)
        kind = tag & 7
        if kind == NUMBER:
            _, place = read_number(data, first, stop)
        elif kind == BYTES:
            length, first = read_number(data, first, stop)
            place = first + length
        elif kind in (EIGHT, FOUR):
            place = first + (8 if kind == EIGHT else 4)
        else:
            raise WireError(f"a field of kind {kind} at {begin}")
        if place > stop:
            raise WireError(f"the field at {begin} goes beyond its message")
        yield Field(tag >> 3, kind, begin, first, place)


def read_number(data: Buffer, start: int, stop: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends. Raises WireError."""
    number = shift = 0
    for place in range(start, stop):
        byte = data[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place + 1
        shift += 7
        if shift >= _MOST_BITS:
            break
    raise WireError(f"no number at {start}")


def read_numbers(data: Buffer, field: Field) -> Iterator[int]:
    """The numbers of a field that repeats: one, or all of them where they are packed."""
    place = field.start
    while place < field.stop:
        number, place = read_number(data, place, field.stop)
        yield number


def read_float(data: Buffer, field: Field) -> float:
    """The number of a field in four bytes. Raises WireError."""
    if field.kind != FOUR:
        raise WireError(f"no number at {field.start}")
    (number,) = struct.unpack("<f", data[field.start : field.stop])
    return float(number)


def read_text(data: Buffer, field: Field) -> str:
    """The text of a field. Raises WireError."""
    try:
        return data[field.start : field.stop].decode()
    except UnicodeDecodeError as error:
        raise WireError(f"no text at {field.start}") from error


def write_number(number: int) -> bytes:
    """A number that is not below 0, seven bits a byte."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def write_field(number: int, value: int | str | bytes) -> bytes:
    """A field with a number, or with bytes behind their length."""
    if isinstance(value, int):
        return write_number(number << 3 | NUMBER) + write_number(value)
    content = value.encode() if isinstance(value, str) else value
    return write_number(number << 3 | BYTES) + write_number(len(content)) + content


def join_fields(number: int, values: Iterable[int | str | bytes]) -> bytes:
    """A field that repeats, with each of the values."""
    return b"".join(write_field(number, value) for value in values)
