"""The host's ear: reads the frames that agent.c writes to port 0xE9."""

import os
import struct

START = 0x1F
HEAD = struct.Struct("<BcH")
TYPES = b"SROEFZX"


class Reader:
    """Feed it bytes, get (type, payload) pairs. Bytes outside a frame (a BIOS likes to chat on that port) are skipped."""

    def __init__(self):
        self.pending = b""

    def feed(self, data):
        self.pending += data
        while True:
            start = self.pending.find(bytes([START]))
            if start < 0:
                self.pending = b""
                return
            self.pending = self.pending[start:]
            if len(self.pending) < HEAD.size:
                return
            _, kind, length = HEAD.unpack_from(self.pending)
            if kind not in TYPES:
                self.pending = self.pending[1:]
                continue
            if len(self.pending) < HEAD.size + length:
                return
            payload = self.pending[HEAD.size : HEAD.size + length]
            self.pending = self.pending[HEAD.size + length :]
            yield kind.decode(), payload


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]
