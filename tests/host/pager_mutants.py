#!/usr/bin/env python3
"""Seed one-line bugs in the pager, one at a time; its host tests must find every one of them.

usage: pager_mutants.py SOURCE_ROOT WORK_DIR CC...          exit 1 if a mutant survives, 77 if the tests cannot run here

Not among them: waking a thread whose fault is satisfied already. Kernels let it go by themselves except in a window that no test can hit at will.

A mutant is a file, a text in it (found exactly once, or the table is out of date) and what to put in its place. A test that fails, aborts or does
not end has found it.
"""
import concurrent.futures
import glob
import os
import subprocess
import sys

FLAGS = ["-std=gnu17", "-O1", "-g", "-w", "-D_GNU_SOURCE", "-fno-strict-aliasing", "-pthread"]
END_S, SOUND_END_S = 15, 120  # a mutant under which threads wait for ever; the real tests take seconds
TESTS = [("test_pager", []), ("stress_pager", ["counters_are_exact_on_two_nodes", "litmus_on_two_nodes", "a_random_walk_beyond_the_caches_on_two_nodes"])]

MUTANTS = [
    ("deed.c", "writers are not stopped", "err = uffd_protect(&e->uffd, page);", "err = 0;"),
    ("deed.c", "a frame given up stays", "err = uffd_zap(&e->uffd, page);", "err = 0;"),
    ("deed.c", "shared frames are writable", "a->state == PAGE_M);", "true);"),
    ("deed.c", "zeros instead of the bytes", "bytes ? bytes : zero_page", "zero_page"),
    ("deed.c", "zero pages travel", "e->taken_zero ? PAGE_ZERO : PAGE_DATA_IN", "PAGE_DATA_IN"),
    ("deed.c", "every taken page is called zero", "e->taken_zero ? PAGE_ZERO : PAGE_DATA_IN", "PAGE_ZERO"),
    ("deed.c", "a full queue is forgotten", "if (err == -ENOBUFS)\n\t\tengine_fail", "if (err == -ENOBUFS)\n\t\treturn;\n\tif (err == 1)\n\t\tengine_fail"),
    ("engine.c", "pages are asked for without room", "return e->cache.max && engine_shrink(e, e->cache.max - 1, EVICT_TRIES);", "return true;"),
    ("engine.c", "deferred faults are dropped", "\tif (e->deferrals)\n\t\tengine_retry(e);", "\te->deferrals = 0;"),
    ("engine.c", "pages on their way are not charged", "return p->state != PAGE_I || p->pending != PAGE_IDLE;", "return p->state != PAGE_I;"),
    ("engine.c", "the cut budget is not enforced", "if (e->cache.charged > e->cache.max - spare)", "if (false)"),
    ("engine.c", "nothing is asked for ahead", "for (unsigned i = 1; i <= up; i++)", "for (unsigned i = 1; i < up * 0; i++)"),
    ("engine.c", "nothing is asked for behind", "for (unsigned i = 1; i <= down; i++)", "for (unsigned i = 1; i < down * 0; i++)"),
    ("engine.c", "fresh pages come shared", "&& !e->dir[page].touched;", "&& false;"),
    ("engine.c", "nonsense from a peer is ignored", "if (page < 0 || engine_step(e, (uint64_t)page, &ev, l.data))", "if (page >= 0 && engine_step(e, (uint64_t)page, &ev, l.data) > 0)"),
    ("engine.c", "garbage from a peer is ignored", "else if (more < 0)", "else if (more > 0)"),
    ("engine.c", "an ended stream is ignored", "if (err)\n\t\tengine_fail(e, STOP_LOST, from, \"the page stream to it ended",
     "if (err == 1)\n\t\tengine_fail(e, STOP_LOST, from, \"the page stream to it ended"),
    ("engine.c", "the others are not told why", "if (link_queue(e->link[i], text, n, NULL) == 0", "if (false && link_queue(e->link[i], text, n, NULL) == 0"),
    ("engine.c", "holds never end", "engine_local(e, h->page, PAGE_EV_HOLD_END);\n}", "}"),
    ("learn.c", "no read is served as a write", "ev->exclusive = migrate_read(&e->migrate[page], who);", "ev->exclusive = false;"),
    ("migrate.c", "a wrong guess is not noticed", "*changed = print != m->print;", "*changed = true;"),
    ("engine.c", "freed pages stay", "if (e->note[page].goes && !engine_failed(e))", "if (false)"),
    ("engine.c", "told before all have gone", "\t\t\tif (e->going)\n\t\t\t\treturn;\n", ""),
    ("engine.c", "others' pages are discarded", "if (!engine_homed_here(e, page) || e->note[page].goes", "if (e->note[page].goes"),
    ("pager.c", "the timer for holds is not set", "uint64_t due_ns = engine_due_ns(&p->engine);", "uint64_t due_ns = UINT64_MAX;"),
    ("pager.c", "a stuck link is not watched", "change & 1u << n && pager_watch", "false && pager_watch"),
    ("pager.c", "on_stop is called after a freeze", "&p->freeze, &none, FREEZE_CLAIMED) && e->config.on_stop", "&p->freeze, &none, FREEZE_CLAIMED) || e->config.on_stop"),
]


def parts(root):
    files = [f for room in ("base", "wire", "proto", "net", "mem") for f in glob.glob(os.path.join(root, "src", room, "*.c"))]
    return files + [os.path.join(root, "tests", f) for f in ("test.c", "host/pager_bed.c", "host/test_pager.c", "host/stress_pager.c")]


def compile_to(cc, root, source, target):
    subprocess.run([*cc, *FLAGS, "-I", root, "-I", os.path.join(root, "src"), "-c", source, "-o", target], check=True)
    return target


def programs(cc, objects, path):
    for name, args in TESTS:
        others = [o for o in objects if not any(o.endswith(f"/{other}.o") for other, _ in TESTS if other != name)]
        subprocess.run([*cc, "-pthread", *others, "-o", f"{path}_{name}"], check=True)
        yield [f"{path}_{name}", *args]


def verdict(cc, objects, path, end_s=END_S):
    """What found it; None if nothing did."""
    for command in programs(cc, objects, path):
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=end_s, check=False)
        except subprocess.TimeoutExpired:
            return "it does not end"
        if run.returncode == 77:
            sys.exit(77)
        if run.returncode:
            fails = [line for line in run.stdout.split("\n") if line.startswith("FAIL")]
            return fails[0].split(": ")[0] if fails else f"exit {run.returncode}"
    return None


def try_mutant(number, root, work, cc, objects):
    file, _, old, new = MUTANTS[number]
    path = os.path.join(work, f"mutant_{number}")
    with open(os.path.join(root, "src/mem", file), encoding="utf-8") as lines:
        source = lines.read()
    if source.count(old) != 1:
        return None, f"its text is in the source {source.count(old)} times, not once"
    with open(path + ".c", "w", encoding="utf-8") as out:
        out.write(source.replace(old, new))
    changed = compile_to(cc, root, path + ".c", path + ".o")
    mixed = [changed if o.endswith(f"/mem_{file[:-2]}.o") else o for o in objects]
    return verdict(cc, mixed, path), "all tests passed"


def main():
    root, work, cc = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.makedirs(work, exist_ok=True)
    objects = []
    for source in parts(root):
        room = os.path.basename(os.path.dirname(source))
        name = os.path.basename(source)[:-2]
        objects.append(compile_to(cc, root, source, os.path.join(work, f"{room}_{name}.o" if "/src/" in source else f"{name}.o")))
    sound = verdict(cc, objects, os.path.join(work, "sound"), SOUND_END_S)
    if sound:
        print(f"the pager without a mutant fails: {sound}")
        return 1
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number, (why, said) in enumerate(pool.map(lambda n: try_mutant(n, root, work, cc, objects), range(len(MUTANTS)))):
            survivors += why is None
            print(f"{'killed  ' if why else 'SURVIVED'} {MUTANTS[number][0]:9s} {MUTANTS[number][1]:36s} {why or said}", flush=True)
    print(f"mutants of the pager: {len(MUTANTS) - survivors} of {len(MUTANTS)} killed", flush=True)
    return survivors > 0


if __name__ == "__main__":
    sys.exit(main())
