#!/usr/bin/env python3
"""Seed one-line bugs in proto/page.c, one at a time; the explorer must find every one of them.

usage: mutants.py SOURCE_ROOT WORK_DIR CC...          exit 1 if a mutant survives

A mutant is a text of page.c (found exactly once, or the table is out of date) and what to put in its place.
"""
import concurrent.futures
import os
import signal
import subprocess
import sys

# (name, text in page.c, replacement[, nodes it takes to see it])
MUTANTS = [
    ("duplicate read sends again",
     "else if (s->p->pending == PAGE_IDLE)\n\t\tpage_request(s, PAGE_READING);",
     "else if (s->p->pending != PAGE_WRITING)\n\t\tpage_request(s, PAGE_READING);"),
    ("writer forgotten behind a prefetch",
     "page_request(s, PAGE_WRITING);\n\telse if (s->p->pending == PAGE_PREFETCHING)",
     "page_request(s, PAGE_WRITING);\n\telse if (s->p->pending == PAGE_READING)"),
    ("evict during the hold", "if (s->d || s->p->held || s->p->pending", "if (s->d || s->p->pending"),
    ("evict while a request is in flight", "s->p->held || s->p->pending != PAGE_IDLE)", "s->p->held)"),
    ("evict at the home", "if (s->d || s->p->held ||", "if (s->p->held ||"),
    ("evict drops modified bytes", "PAGE_WRITE_BACK, PAGE_TAKEN);", "PAGE_DROP, PAGE_NONE);"),
    ("evict does not stop writers", "act(s, PAGE_DO_PROTECT);\n\t\tact_take(s);\n\t\tact_zap(s);", "act_take(s);\n\t\tact_zap(s);"),
    ("inv keeps the frame", "if (s->p->state != PAGE_I)\n\t\tact_zap(s);\n\tact_send(s, s->home, PAGE_ACK",
     "if (s->p->state == PAGE_M)\n\t\tact_zap(s);\n\tact_send(s, s->home, PAGE_ACK"),
    ("inv answered before the zap",
     "if (s->p->state != PAGE_I)\n\t\tact_zap(s);\n\tact_send(s, s->home, PAGE_ACK, PAGE_NONE);",
     "act_send(s, s->home, PAGE_ACK, PAGE_NONE);\n\tif (s->p->state != PAGE_I)\n\t\tact_zap(s);"),
    ("fetch_s leaves the frame writable", "act(s, PAGE_DO_PROTECT);\n\ts->p->state = PAGE_S;\n\tact_send", "s->p->state = PAGE_S;\n\tact_send"),
    ("fetch_s stays M", "s->p->state = PAGE_S;\n\tact_send(s, s->home, PAGE_DATA", "act_send(s, s->home, PAGE_DATA"),
    ("fetch_m keeps a copy", "act_take(s);\n\tact_zap(s);\n\tact_send(s, s->home, PAGE_DATA, PAGE_TAKEN);",
     "act_take(s);\n\ts->p->state = PAGE_S;\n\tact_send(s, s->home, PAGE_DATA, PAGE_TAKEN);"),
    ("recall does not wait for the hold", "if (s->p->held)\n\t\ts->p->recalled = (uint8_t)(1 + msg); /* I9 */\n\telse if",
     "if (s->p->held > 1)\n\t\ts->p->recalled = (uint8_t)(1 + msg); /* I9 */\n\telse if"),
    ("recall lost at the hold's end", "if (s->p->held || !recalled)", "if (s->p->held || recalled)"),
    ("second hold ends with the first", "s->p->held++;", "s->p->held = 1;"),
    ("grant of a read is not held", "if (waited)\n\t\tact_hold(s);", "if (!waited)\n\t\tact_hold(s);"),
    ("waiters not woken after a write-back", "act(s, PAGE_DO_WAKE); /* at the home only", "(void)0; /* at the home only"),
    ("grant of a write leaves the request pending", "s->p->pending = PAGE_IDLE;\n\tif (bytes == PAGE_NONE)", "if (bytes == PAGE_NONE)"),
    ("home's hold ignored", "if (s->p->held) {\n\t\ts->p->recalled", "if (s->p->held > 2) {\n\t\ts->p->recalled"),
    ("home's own recall forgotten", "s->d->awaiting &= (uint16_t)~bit(s->self);\n\t\tdir_finish(s);\n", "s->d->awaiting &= (uint16_t)~bit(s->self);\n"),
    ("home's frame left writable", "act(s, PAGE_DO_PROTECT);\n\t\ts->p->state = PAGE_S;\n\t\ts->d->owner = 0;", "s->p->state = PAGE_S;\n\t\ts->d->owner = 0;"),
    ("home keeps its copy when another writes", "if (!node_eq(to, s->self) && s->p->state != PAGE_I)\n\t\tact_zap(s);", ""),
    ("writer's fetch leaves the owner a copy", "write ? PAGE_FETCH_M : PAGE_FETCH_S", "PAGE_FETCH_S"),
    ("one sharer not invalidated", "(uint16_t)~(bit(n) | bit(s->self))", "(uint16_t)~(bit(n) | bit(s->self) | bit((node_t){2}))"),
    ("first ack ends the wait for all", "s->d->awaiting &= (uint16_t)~bit(from);\n\tdir_finish", "s->d->awaiting = 0;\n\tdir_finish"),
    ("upgrade granted to who holds nothing", "s->d->sharers & bit(to) ? PAGE_NONE : dir_bytes(s);", "s->d->sharers ? PAGE_NONE : dir_bytes(s);"),
    ("grant_m forgets to clear the sharers", "s->d->sharers = 0;\n\ts->d->owner", "s->d->owner"),
    ("written page still counts as zero", "s->d->touched = 1;", "s->d->touched = 0;"),
    ("written-back bytes taken for zero", "s->d->owner = 0;\n\ts->d->touched = bytes != PAGE_ZERO;", "s->d->owner = 0;\n\ts->d->touched = 0;"),
    ("fetched bytes taken for zero", "s->d->touched = bytes != PAGE_ZERO;\n\t\tif", "s->d->touched = 0;\n\t\tif"),
    ("old bytes granted for known zeros", "return s->d->touched ? act_take(s) : PAGE_ZERO;", "return PAGE_ZERO;"),
    ("fetched bytes not kept at the home", "if (!node_eq(dir_served(s), s->self))\n\t\t\tdir_settle(s, bytes);", ""),
    ("old owner forgotten as sharer", "s->d->sharers = bit(from);", "s->d->sharers = 0;"),
    ("write-back leaves the owner", "s->d->owner = 0;\n\ts->d->touched = bytes", "s->d->touched = bytes"),
    ("write-back into a fetch is lost", "touched = bytes != PAGE_ZERO;\n\tdir_settle(s, bytes);", "touched = bytes != PAGE_ZERO;\n\tif (!s->d->awaiting)\n\t\tdir_settle(s, bytes);"),
    ("drop ignored", "s->d->sharers &= (uint16_t)~bit(from);\n}", "(void)from;\n}"),
    ("directory does not block", "want && !d->serving; i++", "want; i++"),
    ("next request not served after an ack", "dir_finish(s);\n\tdir_next(s);\n}\n\nstatic void dir_data", "dir_finish(s);\n}\n\nstatic void dir_data"),
    ("lowest node always first", "(d->last + i) % NODES_MAX", "(i - 1) % NODES_MAX", 4), # with three, whoever is next never has a rival
    ("turns not remembered", "d->last = n.v;", ""),
]

FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-O1", "-w"]
PARTS = ["tests/explore/cluster.c", "tests/explore/cluster_text.c", "tests/explore/states.c", "tests/explore/fair.c", "tests/explore/explore.c",
         "tests/page_text.c", "src/base/ensure.c"]


def compile_parts(root, work, cc):
    objects = []
    for part in PARTS:
        objects.append(os.path.join(work, os.path.basename(part) + ".o"))
        subprocess.run([*cc, *FLAGS, "-I", root, "-I", os.path.join(root, "src"), "-c", os.path.join(root, part), "-o", objects[-1]], check=True)
    return objects


def verdict(run):
    """What the explorer said, or None if the mutant survived."""
    if run.returncode == -signal.SIGABRT:
        return run.stderr.strip().split("\n")[-1].replace("tessera: bug: ", "assertion: ").split(" at ")[0]
    if run.returncode != 1 or "violation: " not in run.stdout:
        return None
    steps = sum(line.startswith("  node") for line in run.stdout.split("\n"))
    return run.stdout.split("violation: ")[1].split("\n")[0] + f" ({steps} steps)"


def try_mutant(number, root, work, cc, objects, source):
    name, old, new, nodes = (*MUTANTS[number], 3)[:4]
    if source.count(old) != 1:
        return name, None, f"its text is in page.c {source.count(old)} times, not once"
    path, program = os.path.join(work, f"page_{number}.c"), os.path.join(work, f"explore_{number}")
    with open(path, "w", encoding="utf-8") as out:
        out.write(source.replace(old, new))
    subprocess.run([*cc, *FLAGS, "-I", os.path.join(root, "src"), path, *objects, "-o", program], check=True)
    try:
        run = subprocess.run([program, "--nodes", str(nodes), "--max-states", "2000000"], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return name, None, "the explorer did not end in 120 s"
    return name, verdict(run), run.stdout.strip().split("\n")[-1]


def main():
    root, work, cc = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.makedirs(work, exist_ok=True)
    with open(os.path.join(root, "src/proto/page.c"), encoding="utf-8") as lines:
        source = lines.read()
    objects, survivors = compile_parts(root, work, cc), 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, why, said in pool.map(lambda n: try_mutant(n, root, work, cc, objects, source), range(len(MUTANTS))):
            survivors += why is None
            print(f"{'killed  ' if why else 'SURVIVED'} {name:46s} {why or said}", flush=True)
    print(f"mutants: {len(MUTANTS) - survivors} of {len(MUTANTS)} killed")
    return survivors > 0


if __name__ == "__main__":
    sys.exit(main())
