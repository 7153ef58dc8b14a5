"""A disk that boots a kernel without a boot loader: bootsector.S, then the kernel's segments, the initrd and what PVH calls the start information."""

import os
import struct
import subprocess

from common import HERE, LabError, run_tool

SECTOR = 512
EXTENTS_MAX = 9  # bootsector.S has room for one more, the end mark
INITRD_AT, INFO_AT = 0x8000000, 0x7F00000  # above the kernel (16 MiB and up)
PHYS32_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY
RAM, ACPI = 1, 3  # e820 types
START_MAGIC = 0x336EC578  # struct hvm_start_info


def elf_segments(elf):
    """[(address, bytes)] of an ELF64 kernel, and its PVH entry."""
    offset, = struct.unpack_from("<Q", elf, 0x20)
    size, count = struct.unpack_from("<HH", elf, 0x36)
    segments, entry = [], None
    for i in range(count):
        kind, _, start, _, address, length, _, _ = struct.unpack_from("<IIQQQQQQ", elf, offset + i * size)
        body = elf[start : start + length]
        if kind == 1 and length:
            segments.append((address, body))
        elif kind == 4:
            entry = entry or pvh_entry(body)
    if not entry:
        raise LabError("the kernel has no PVH entry")
    return segments, entry


def pvh_entry(notes):
    at = 0
    while at + 12 <= len(notes):
        name_len, desc_len, kind = struct.unpack_from("<III", notes, at)
        desc = at + 12 + (name_len + 3) // 4 * 4
        if kind == PHYS32_ENTRY and notes[at + 12 : at + 15] == b"Xen":
            return struct.unpack_from("<I", notes, desc)[0]
        at = desc + (desc_len + 3) // 4 * 4
    return None


def start_info(initrd_bytes, command_line, memory_map):
    """hvm_start_info version 1 with its module list, memory map and command line behind it."""
    modules, maps = INFO_AT + 0x40, INFO_AT + 0x60
    text = maps + 24 * len(memory_map)
    head = struct.pack("<IIIIQQQQII", START_MAGIC, 1, 0, 1, modules, text, 0, maps, len(memory_map), 0)
    body = head.ljust(0x40, b"\0") + struct.pack("<QQQQ", INITRD_AT, initrd_bytes, 0, 0)
    body += b"".join(struct.pack("<QQII", start, length, kind, 0) for start, length, kind in memory_map)
    return body + command_line.encode() + b"\0"


def bochs_memory_map(mib):
    """What the Bochs BIOS reports (it keeps its ACPI tables in the last 64 KiB)."""
    end = mib << 20
    return [(0, 0x9F000, RAM), (0x100000, end - 0x110000, RAM), (end - 0x10000, 0x10000, ACPI)]


def make(out, work, kernel, initrd, command_line, memory_map, size):
    with open(kernel, "rb") as f:
        extents, entry = elf_segments(f.read())
    with open(initrd, "rb") as f:
        extents.append((INITRD_AT, f.read()))
    extents.append((INFO_AT, start_info(len(extents[-1][1]), command_line, memory_map)))
    if len(extents) > EXTENTS_MAX:
        raise LabError(f"the kernel has {len(extents) - 2} segments; bootsector.S has room for {EXTENTS_MAX - 2}")
    obj, boot = os.path.join(work, "boot.o"), os.path.join(work, "boot.bin")
    run_tool("gcc", "-m32", "-c", "-o", obj, os.path.join(HERE, "bootsector.S"), stderr=subprocess.PIPE)
    run_tool("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", boot, obj, stderr=subprocess.PIPE)
    with open(boot, "rb") as f:
        sector = bytearray(f.read())
    table = 510 - 8 - 12 * (EXTENTS_MAX + 1)
    lba = 1
    with open(out, "wb") as f:
        for i, (address, body) in enumerate(extents):
            sectors = -(-len(body) // SECTOR)
            struct.pack_into("<III", sector, table + 12 * i, lba, sectors, address)
            f.seek(lba * SECTOR)
            f.write(body)
            lba += sectors
        struct.pack_into("<II", sector, 502, INFO_AT, entry)
        f.seek(0)
        f.write(sector)
        f.truncate(size)
