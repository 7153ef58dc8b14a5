/* What a remote fault cannot be faster than on this machine: one TCP round trip of a request and a page, and one userfaultfd service by another thread. */
#ifndef TESTS_BENCH_FLOOR_H
#define TESTS_BENCH_FLOOR_H

#include "base/histogram.h"

uint64_t bench_now_ns(void);

/* 8 bytes there, 4 KiB back, over loopback TCP between two processes, both ends blocking (poll false) or polling (true). 0 or -errno. */
int floor_tcp(struct histogram *h, unsigned rounds, bool poll) MUST_CHECK;
/* A read of a missing page, served by a thread of this process that blocks or polls on the userfaultfd. */
int floor_uffd(struct histogram *h, unsigned rounds, bool poll) MUST_CHECK;

#endif
