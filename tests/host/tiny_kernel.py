"""Guests of a few instructions for tests that need a real machine but no Linux: an ELF file with a PVH entry note (vm/pvh.c), entered in 32-bit protected
mode with flat segments, paging and interrupts off."""
import struct

LOAD_AT = 1 << 20
PHYS32_ENTRY = 18


def say(text):
    """mov edx, COM1; for each byte: mov al, byte; out dx, al"""
    return b"\xba\xf8\x03\x00\x00" + b"".join(bytes([0xB0, c, 0xEE]) for c in text)


def wait_for_key():
    """Set DTR and RTS in COM1's MCR; then read its LSR until DR is set: mov edx, MCR; mov al, 3; out dx, al; inc edx; in al, dx; test al, 1; jz"""
    return b"\xba\xfc\x03\x00\x00\xb0\x03\xee\x42\xec\xa8\x01\x74\xfb"


def jump(address):
    """mov eax, address; jmp eax"""
    return b"\xb8" + struct.pack("<I", address) + b"\xff\xe0"


def reset():
    """mov edx, 0xcf9; mov al, 6; out dx, al; jmp ."""
    return b"\xba\xf9\x0c\x00\x00\xb0\x06\xee\xeb\xfe"


def write(path, code):
    code += b"\0" * (-len(code) % 4)
    note = struct.pack("<III4sI", 4, 4, PHYS32_ENTRY, b"Xen\0", LOAD_AT)
    at = 64 + 2 * 56

    def segment(kind, offset, size):
        return struct.pack("<IIQQQQQQ", kind, 7, at + offset, LOAD_AT + offset, LOAD_AT + offset, size, size, 4)

    with open(path, "wb") as f:
        f.write(b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, LOAD_AT, 64, 0, 0, 64, 56, 2, 0, 0, 0))
        f.write(segment(1, 0, len(code)) + segment(4, len(code), len(note)) + code + note)
