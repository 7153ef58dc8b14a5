/* What host and guest of the litmus tests share: the guest's memory map and the work order of one vCPU. */
#ifndef TESTS_LITMUS_GUEST_H
#define TESTS_LITMUS_GUEST_H

#include <stdint.h>

/* SB store buffering, SBF the same with fences, MP message passing, LB load buffering, IRIW independent reads of independent writes, W22 2+2W, CORR coherent
 * reads, LOCK locked increments, MIXED 8-byte store against 4-byte loads, CROSS 8-byte store over a page boundary, CROSSLOCK locked increments there. */
#define LITMUS_TESTS(T) \
	T(SB, 2) T(SBF, 2) T(MP, 2) T(LB, 2) T(IRIW, 4) T(W22, 2) T(CORR, 2) T(LOCK, 4) T(MIXED, 2) T(CROSS, 2) T(CROSSLOCK, 2)

enum litmus_test {
#define T(name, threads) LITMUS_##name,
	LITMUS_TESTS(T)
#undef T
	LITMUS_COUNT
};

enum {
	LITMUS_PORT_DONE = 0xf0,
	LITMUS_PORT_YIELD = 0xf1,
	LITMUS_CELL_BYTES = 64,
	LITMUS_CELLS = 32,         /* cells of one batch; both pages of a batch move many times while it runs */
	LITMUS_VCPUS = 4,

	/* Guest-physical and virtual (identity); low half of RAM has node 0 as home, high half node 1. */
	LITMUS_RAM_BYTES = 16 << 20,
	LITMUS_TABLES = 0x1000,    /* PML4, PDPT, PD */
	LITMUS_CODE = 0x10000,
	LITMUS_CODE_MAX = 0x10000,
	LITMUS_WORK = 0x30000,     /* a page a vCPU: struct litmus_work */
	LITMUS_STACK = 0x40000,    /* a page a vCPU */
	LITMUS_BARRIER = 0x50000,
	LITMUS_X = 0x60000,        /* two pages, home node 0 */
	LITMUS_Y = 0xa00000,       /* two pages, home node 1 */
	LITMUS_RESULTS = 0x100000, /* LITMUS_RESULT_BYTES a vCPU */
	LITMUS_RESULT_BYTES = 1 << 20,
};

struct litmus_work {
	uint64_t test, thread, threads, batches;
	uint64_t generation; /* this vCPU's own count of barriers */
	uint64_t random;     /* state of the delays between turns */
	uint64_t delay;      /* longest of them, in rounds of an empty loop */
};

/* The guest's code, a section whose bounds the linker names; copied whole to LITMUS_CODE. It runs at CPL 3 with IOPL 3. */
extern const uint8_t litmus_code[] __asm__("__start_litmus_text"), litmus_code_end[] __asm__("__stop_litmus_text");
uint64_t litmus_entry_offset(void);

#endif
