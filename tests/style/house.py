#!/usr/bin/env python3
"""The house style, as far as a machine can see it (CONTRIBUTING.md). Prints each violation; exit 1 if there is any.

usage: house.py [ROOT]          check the tree
       house.py --planted       plant one violation of every rule in a scratch tree and demand that each is seen
"""
import os
import re
import subprocess
import sys
import tempfile

FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 90
FUNCTION_LINES_WARN = 70
LINE_MAX = 170

# Headers whose names are words of the whole house, and one word that stands for its room.
ANY_PREFIX = {"src/base/types.h"}
ROOM_PREFIX = {"src/wire/codec.h"}

# Exceptions, each with its reason.
GENERATED_INCLUDES = (".hex",)  # what iasl makes of an .asl file lies in the build tree
CALLS_ALLOWED = {
    ("src/dev/serial.c", "usleep"): "its worker gathers output before it tells the console; nobody waits for that",
}

# Written in two parts so that this file does not break its own rules.
MERGE = ("<" * 7 + " ", ">" * 7 + " ")
STUBS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
WORKPLACE = re.compile("/wo" + r"rk/|\.libr" + "ary/|/sha" + r"red/(design|style|lab|field)\.md|\.\./sha" + "red/")


class Tree:
    """The files of a project and what is wrong with them."""

    def __init__(self, root):
        self.root = root
        self.wrong = []
        self.warned = []
        self.files = self.list_files()
        self.text = {}
        for name in self.files:
            try:
                with open(os.path.join(root, name), encoding="utf-8") as f:
                    self.text[name] = f.read()
            except UnicodeDecodeError:
                self.text[name] = ""
        self.rooms = self.read_rooms()

    def list_files(self):
        try:
            out = subprocess.run(["git", "-C", self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                 check=True, capture_output=True, text=True).stdout
            names = sorted(set(filter(None, out.split("\0"))))
        except (OSError, subprocess.CalledProcessError):
            names = [os.path.relpath(os.path.join(d, f), self.root) for d, _, fs in os.walk(self.root) for f in fs
                     if not os.path.relpath(d, self.root).startswith(("build", ".git"))]
        return [n for n in names if os.path.isfile(os.path.join(self.root, n)) and not os.path.islink(os.path.join(self.root, n))]

    def read_rooms(self):
        rooms = {}
        for line in self.text.get("ROOMS", "").splitlines():
            room, colon, allowed = line.split("#")[0].partition(":")
            if colon:
                rooms[room.strip()] = allowed.split()
        return rooms

    def c_files(self, *folders):
        return [n for n in self.files if n.endswith((".c", ".h")) and n.startswith(folders)]

    def say(self, rule, name, line, what):
        self.wrong.append((rule, f"{name}:{line}: {what} [{rule}]"))

    def warn(self, name, line, what):
        self.warned.append(f"{name}:{line}: warning: {what}")


def room_of(name):
    parts = name.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def check_rooms(t):
    """Includes go downward only, spelled "room/file.h"; rooms and folders agree; nothing is declared behind a header's back."""
    seen = set()
    for room, allowed in t.rooms.items():
        for other in allowed:
            if other not in seen:
                t.say("rooms", "ROOMS", 1, f"{room} may include {other}, which is not below it")
        seen.add(room)
    for name in t.c_files("src/"):
        room = room_of(name)
        if room is None:
            if name != "src/main.c":
                t.say("rooms", name, 1, "only src/main.c lies outside a room")
            continue
        if room not in t.rooms:
            t.say("rooms", name, 1, f"room {room} is not in ROOMS")
            continue
        for n, line in enumerate(t.text[name].splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]*)"', line)
            if m:
                other = m.group(1).split("/")[0]
                if other not in t.rooms and not m.group(1).endswith(GENERATED_INCLUDES):
                    t.say("rooms", name, n, f'write #include "room/file.h", not "{m.group(1)}"')
                elif other in t.rooms and other != room and other not in t.rooms[room]:
                    t.say("rooms", name, n, f"{room} must not include {other}")
            if name.endswith(".c") and re.match(r"\s*extern\b", line) and not re.search(r"\b(environ|_binary_\w+|__\w+|\w+_(start|end|blob))\b", line):
                t.say("rooms", name, n, "declare it in a header and include that")


def check_opening(t):
    """Every C file opens with a comment; every script says what it is."""
    for name in t.c_files("src/", "tests/", "tools/"):
        if not t.text[name].startswith("/*"):
            t.say("opening", name, 1, "open with a comment: why this file exists")
    for name in t.files:
        text = t.text[name]
        if text.startswith("#!") and not name.endswith((".c", ".h")):
            second = text.split("\n", 2)[1] if text.count("\n") > 1 else ""
            if not second.startswith(("#", '"""', "'''", "import", "r\"\"\"")):
                t.say("opening", name, 2, "open with a comment: why this script exists")


def check_guard(t):
    """Guards are ROOM_FILE_H (wire/generate.h has none on purpose)."""
    for name in t.c_files("src/"):
        if not name.endswith(".h") or name == "src/wire/generate.h":
            continue
        guard = re.sub(r"\W", "_", name[len("src/"):]).upper()
        if f"#ifndef {guard}\n#define {guard}\n" not in t.text[name]:
            t.say("guard", name, 1, f"guard is not {guard}")


DECLARATION = re.compile(r"^(?!static|typedef|struct \w+ \{|enum|#|\s|/|\*|_Static_assert|return)[A-Za-z_][\w \*]*?\b(\w+)\(", re.M)


def without_comments(text):
    return re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.S)


def parts_of(t, header):
    """Prefixes of the .c files of that room that have no header of their own and include this one (vm/boot_image.h: bzimage_, pvh_)."""
    for name in t.c_files(os.path.dirname(header) + "/"):
        if name.endswith(".c") and f'"{header[len("src/"):]}"' in t.text[name]:
            noun = os.path.basename(name)[:-2]
            if name[:-2] + ".h" not in t.text or noun == os.path.basename(header).split("_")[0]:
                yield noun + "_"


def check_prefix(t):
    """A file's noun is the prefix of every function its header declares; nouns are unique across rooms."""
    nouns = {}
    for name in t.c_files("src/"):
        if not name.endswith(".h"):
            continue
        noun = os.path.basename(name)[:-2]
        if noun in nouns:
            t.say("prefix", name, 1, f"{nouns[noun]} has the same noun")
        nouns[noun] = name
        if name in ANY_PREFIX:
            continue
        prefixes = (noun + "_",) + ((room_of(name) + "_",) if name in ROOM_PREFIX else ()) + tuple(parts_of(t, name))
        text = re.sub(r"\\\n.*", "", without_comments(t.text[name]))
        for m in DECLARATION.finditer(text):
            if not m.group(1).startswith(prefixes) and m.group(1) != noun and m.group(1) not in ("PRINTF_LIKE", "WIRE_MESSAGES", "WIRE_SYM"):
                t.say("prefix", name, text.count("\n", 0, m.start()) + 1, f"{m.group(1)}() should begin with {prefixes[0]}")


def functions(text):
    """(first line, last line, name) of each function body; the house puts both its braces in column 0."""
    lines = text.splitlines()
    start = None
    for n, line in enumerate(lines, 1):
        if line == "{" and start is None:
            start = n
        elif line == "}" and start is not None:
            head = n - 1
            head = start - 2
            while head > 0 and lines[head].startswith(("\t", " ")):
                head -= 1
            m = re.search(r"(\w+)\s*\(", lines[head])
            yield start, n, m.group(1) if m else "?"
            start = None


def check_length(t):
    """Short functions, short files, lines one can read."""
    for name in t.c_files("src/", "tests/", "tools/"):
        lines = t.text[name].splitlines()
        if len(lines) > FILE_LINES_MAX:
            t.say("length", name, 1, f"{len(lines)} lines; at most {FILE_LINES_MAX}")
        for first, last, function in functions(t.text[name]):
            n = last - first - 1
            if n > FUNCTION_LINES_MAX:
                t.say("length", name, first, f"{function}() has {n} lines; at most {FUNCTION_LINES_MAX}")
            elif n > FUNCTION_LINES_WARN:
                t.warn(name, first, f"{function}() has {n} lines")
        for n, line in enumerate(lines, 1):
            if len(line.expandtabs(4)) > LINE_MAX:
                t.say("length", name, n, f"line of {len(line.expandtabs(4))} columns; at most {LINE_MAX}")


def check_words(t):
    """Nothing unfinished or half merged, nothing about where it was made, no line ends in blanks."""
    for name in t.files:
        if name.endswith((".patch", ".bin")) or "golden" in name:
            continue
        for n, line in enumerate(t.text[name].splitlines(), 1):
            m = STUBS.search(line)
            if m:
                t.say("stub", name, n, f"{m.group(1)}: finish it, or write it into CAVEATS.md")
            m = WORKPLACE.search(line)
            if m:
                t.say("workplace", name, n, f"'{m.group(0)}' means nothing to a stranger")
            if line.startswith(MERGE):
                t.say("merge", name, n, "an unfinished merge")
            if line != line.rstrip() and not name.endswith(".md"):
                t.say("blanks", name, n, "blanks at the end of the line")


def check_unsafe(t):
    """Calls the house does not use."""
    banned = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|gets|alloca|usleep|system|atoi|strtok|setjmp|longjmp)\s*\(")
    for name in t.c_files("src/"):
        for n, line in enumerate(without_comments(t.text[name]).splitlines(), 1):
            m = banned.search(line)
            if m and (name, m.group(1)) not in CALLS_ALLOWED:
                t.say("banned", name, n, f"{m.group(1)}() is not used here")
            if re.search(r"(?<![\w.>])exit\s*\(", line) and name not in ("src/main.c", "src/base/ensure.c"):
                t.say("banned", name, n, "only main exits")


def check_names_in_documents(t):
    """What a document calls by name in backticks exists: paths, and identifiers with an underscore."""
    words = set()
    for name, text in t.text.items():
        if name.startswith(("src/", "tests/", "tools/")) or "/" not in name and not name.endswith(".md"):
            words.update(re.findall(r"\w+", text))
    for name in t.files:
        if name not in ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md") and not name.startswith("doc/") or not name.endswith(".md"):
            continue
        for n, line in enumerate(t.text[name].splitlines(), 1):
            for word in re.findall(r"`([^`\s]+)`", line):
                check_name(t, words, name, n, word)


def check_name(t, words, name, n, word):
    path = re.fullmatch(r"(?:\./)?([\w-]+(?:/[\w.-]+)+\.[ch]|(?:src|tests|tools|doc)/[\w./-]+)", word)
    if path:
        p = path.group(1).rstrip("/")
        if not any(f == q or f.startswith(q + "/") for q in (p, "src/" + p) for f in t.files):
            t.say("names", name, n, f"no file {word}")
    elif re.fullmatch(r"[a-z]\w*_\w*[a-z0-9](\(\))?", word) and word.rstrip("()") not in words:
        t.say("names", name, n, f"nothing here is called {word}")


CHECKS = [check_rooms, check_opening, check_guard, check_prefix, check_length, check_words, check_unsafe, check_names_in_documents]


def check(root):
    t = Tree(root)
    for one in CHECKS:
        one(t)
    return t


# One violation each: rule, file, text.
GOOD_HEADER = "/* A thing. */\n#ifndef LOW_{0}_H\n#define LOW_{0}_H\n{1}\n#endif\n"
PLANTED = [
    ("rooms", "src/low/up.c", '/* x */\n#include "high/thing.h"\n'),
    ("rooms", "src/low/side.c", '/* x */\n#include "side.h"\n'),
    ("rooms", "src/nowhere/x.c", "/* x */\n"),
    ("rooms", "src/low/behind.c", "/* x */\nextern int secret(void);\n"),
    ("rooms", "ROOMS", "low: high\nhigh: low\n"),
    ("opening", "src/low/bare.c", "int bare;\n"),
    ("opening", "tools/bare", "#!/bin/sh\necho\n"),
    ("guard", "src/low/unguarded.h", "/* x */\n"),
    ("prefix", "src/low/noun.h", GOOD_HEADER.format("NOUN", "int other_thing(void);")),
    ("prefix", "src/high/ok.h", "/* x */\n#ifndef HIGH_OK_H\n#define HIGH_OK_H\n#endif\n"),
    ("length", "src/low/long.c", "/* x */\nint f(void)\n{\n" + "\tf();\n" * 91 + "}\n"),
    ("length", "src/low/longer.c", "/* x */\n" + "\n" * 700),
    ("length", "src/low/wide.c", "/* " + "x" * 170 + " */\n"),
    ("stub", "src/low/stub.c", "/* TO" + "DO */\n"),
    ("workplace", "doc/place.md", "see /wo" + "rk/here\n"),
    ("merge", "doc/merge.md", "<" * 7 + " mine\n"),
    ("blanks", "src/low/blank.c", "/* x */ \n"),
    ("banned", "src/low/copy.c", "/* x */\nvoid f(char *a) { strcpy(a, a); }\n"),
    ("banned", "src/low/leave.c", "/* x */\nvoid f(void) { exit(1); }\n"),
    ("names", "ARCHITECTURE.md", "`no_such_name`\n"),
    ("names", "doc/path.md", "`low/missing.h`\n"),
]


def write(root, name, text):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def sound_tree(root):
    write(root, "ROOMS", "low:\nhigh: low\n")
    write(root, "src/low/ok.h", GOOD_HEADER.format("OK", "int ok_open(void);"))
    write(root, "src/low/ok.c", '/* See ok.h. */\n#include "low/ok.h"\nint ok_open(void)\n{\n\treturn 0;\n}\n')
    write(root, "src/high/thing.h", '/* x */\n#ifndef HIGH_THING_H\n#define HIGH_THING_H\n#include "low/ok.h"\n#endif\n')
    write(root, "ARCHITECTURE.md", "`ok_open` in `low/ok.h`, `src/high/thing.h`.\n")


def planted():
    missed = 0
    with tempfile.TemporaryDirectory() as root:
        sound_tree(root)
        for rule, what in check(root).wrong:
            print(f"FAIL false alarm in a sound tree: {what}")
            missed += 1
    for rule, name, text in PLANTED:
        with tempfile.TemporaryDirectory() as root:
            sound_tree(root)
            write(root, name, text)
            seen = [what for r, what in check(root).wrong if r == rule]
            missed += not seen
            print(f"{'ok  ' if seen else 'FAIL not seen:'} {rule} {name}: {seen[0] if seen else ''}")
    return missed


def main():
    if sys.argv[1:] == ["--planted"]:
        sys.exit(1 if planted() else 0)
    t = check(os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "."))
    for line in t.warned:
        print(line)
    for _, what in t.wrong:
        print(what)
    print(f"{len(t.files)} files, {len(t.wrong)} violations, {len(t.warned)} warnings")
    sys.exit(1 if t.wrong else 0)


if __name__ == "__main__":
    main()
