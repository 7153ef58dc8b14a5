"""The wire between machines of their own: forwards every Ethernet frame to all the others, over QEMU's stream sockets (a 32-bit big-endian
length, then the frame)."""

import os
import socket
import struct
import threading


class Wire:
    def __init__(self, folder):
        self.path = os.path.join(folder, "wire")
        handle = os.open(folder, os.O_PATH)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"/proc/self/fd/{handle}/wire")  # a socket's name must be short
        os.close(handle)
        self.listener.listen(16)
        self.ends, self.lock = [], threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                end, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.ends.append(end)
            threading.Thread(target=self._carry, args=(end,), daemon=True).start()

    def _carry(self, end):
        stream = end.makefile("rb", buffering=1 << 16)
        try:
            while head := stream.read(4):
                frame = head + stream.read(struct.unpack(">I", head)[0])
                with self.lock:
                    for other in self.ends:
                        if other is not end:
                            other.sendall(frame)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        with self.lock:
            for end in self.ends:
                end.close()
