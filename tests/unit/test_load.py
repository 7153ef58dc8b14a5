#!/usr/bin/env python3
"""Does tools/lemp/load notice when a page is not what was asked for? A server here computes what page.php does, then is wrong in one way at a time.
usage: test_load.py LOAD"""

import http.server
import re
import subprocess
import sys
import threading
import urllib.parse

STEPS, COUNT = 1000, 12


def page(row, steps, worker, us=2000):
    x, table = row * 7919, [0] * 1024
    for i in range(steps):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        table[(x >> 8) & 1023] ^= x + i
    total = 0
    for value in table:
        total = (total * 31 + value) & 0xFFFFFFFF
    return f"<!DOCTYPE html>\n<title>Page {row}</title>\n<h1>Page {row}</h1>\n<p>sum={total} steps={steps} worker={worker} us={us}</p>\n"


class Server(http.server.ThreadingHTTPServer):
    """Every page through `change`; the sixth and later ones are what matters, since a client may look at the first only."""

    request_queue_size = 64

    def __init__(self, change, status=200):
        super().__init__(("127.0.0.1", 0), Handler)
        self.change, self.status, self.asked, self.lock = change, status, 0, threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        """A client that has seen enough hangs up."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = {k: int(v[0]) for k, v in urllib.parse.parse_qs(query).items()}
        with self.server.lock:
            self.server.asked += 1
            number = self.server.asked
        named = re.fullmatch(r"/(\d+)/", path)
        text = page(asked["row"], asked["steps"], int(named[1]) if named else number % 2)
        wrong = number > 5
        self.send_response(self.server.status if wrong else 200)
        self.end_headers()
        self.wfile.write((self.server.change(text, asked) if wrong else text).encode())

    def log_message(self, *_):
        pass


WRONG = {
    "a wrong sum": lambda text, asked: re.sub(r"sum=(\d+)", lambda m: f"sum={int(m[1]) ^ 1}", text),
    "another row's page": lambda text, asked: page(asked["row"] + 1, asked["steps"], 0),
    "another row's sum": lambda text, asked: page(asked["row"] + 1, asked["steps"], 0).replace(f"Page {asked['row'] + 1}", f"Page {asked['row']}"),
    "too few steps": lambda text, asked: page(asked["row"], asked["steps"] // 2, 0),
    "half a page": lambda text, asked: text[: len(text) // 2],
    "no page": lambda text, asked: "",
    "a worker that is none": lambda text, asked: text.replace("worker=", "worker=7"),
}


def ask(program, server, *words):
    r = subprocess.run([program, "127.0.0.1", str(server.server_address[1]), *words], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    server.shutdown()
    server.server_close()
    return r.returncode, r.stdout


def pages(program, change, status=200):
    return ask(program, Server(change, status), "pages", str(STEPS), str(COUNT), "4")


def main():
    program = sys.argv[1]
    same = lambda text, asked: text  # noqa: E731
    code, said = pages(program, same)
    found = re.fullmatch(r"load: 12 pages, ([0-9.]+) requests/s, ([0-9.]+) s, ([0-9.]+) ms, ([0-9.]+) ms, (\d) (\d) by each worker\n", said)
    assert code == 0 and found and float(found[1]) > 0 and int(found[5]) + int(found[6]) == COUNT - 4, said
    for what, change in WRONG.items():
        code, said = pages(program, change)
        assert code == 1 and "not the page" in said, f"{what}: {code} {said}"
    code, said = pages(program, same, 500)
    assert code == 1, f"an error's status: {said}"
    assert ask(program, Server(same), "wait", "5") == (0, "load: a page came\n")
    assert ask(program, Server(same), "warm", "1") == (0, "")
    print(f"{len(WRONG) + 1} wrong pages are noticed")


if __name__ == "__main__":
    main()
