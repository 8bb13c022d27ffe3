"""As much of a 32-bit little-endian ELF file as tells what a shared library exports and needs."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

_SHT_RELA, _SHT_DYNAMIC, _SHT_DYNSYM = 4, 6, 11
_DT_NEEDED = 1
_STB_WEAK = 2


class Symbol(NamedTuple):
    name: str
    defined: bool
    weak: bool
    function: bool


class Library(NamedTuple):
    type: int  # 3: shared
    machine: int  # 164: Hexagon
    flags: int  # 0x73: v73
    symbols: list[Symbol]  # dynamic ones
    needed: list[str]
    relocations: set[int]  # kinds of them


def read_library(path: Path) -> Library:
    """ValueError when it is no such file."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x01\x01":
        raise ValueError(f"{path} is no 32-bit little-endian ELF file")
    kind, machine, _, _, _, sections_at, flags, _, _, _, size, count, _ = struct.unpack_from("<2H5I6H", data, 16)
    sections = [struct.unpack_from("<10I", data, sections_at + i * size) for i in range(count)]
    symbols, needed, relocations = [], [], set()
    for _, section_type, _, _, offset, length, link, *_ in sections:
        if section_type == _SHT_RELA:
            relocations |= {info & 0xFF for _, info, _ in struct.iter_unpack("<2Ii", data[offset : offset + length])}
        if section_type not in (_SHT_DYNSYM, _SHT_DYNAMIC):
            continue
        names_at = sections[link][4]

        def text(at: int, begin: int = names_at) -> str:
            return data[begin + at : data.index(b"\0", begin + at)].decode()

        if section_type == _SHT_DYNSYM:
            for at in range(offset + 16, offset + length, 16):
                name, _, _, info, _, section = struct.unpack_from("<3I2BH", data, at)
                symbols.append(Symbol(text(name), section != 0, info >> 4 == _STB_WEAK, info & 0xF == 2))
        else:
            entries = struct.iter_unpack("<2I", data[offset : offset + length])
            needed += [text(value) for tag, value in entries if tag == _DT_NEEDED]
    return Library(kind, machine, flags, symbols, needed, relocations)
