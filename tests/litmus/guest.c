/* The guest side: compiled into the test program, copied into guest memory, run at CPL 3. Everything here lives in one section, uses no global,
 * calls nothing outside it, and is built without sanitizers, jump tables or stack protector. */
#include "tests/litmus/guest.h"

#define GUEST __attribute__((section("litmus_text"), noinline, used))
#define GUEST_INLINE static inline __attribute__((always_inline))

struct barrier { uint64_t arrived, generation; };

GUEST_INLINE void guest_out(uint16_t port)
{
	__asm__ volatile("outb %b0, %w1" : : "a"(0), "Nd"(port) : "memory");
}

GUEST_INLINE volatile uint64_t *cell(uint64_t page, uint64_t c)
{
	return (volatile uint64_t *)(page + c * LITMUS_CELL_BYTES);
}

/* Straddles the boundary between the two pages at 'page'. */
GUEST_INLINE volatile uint64_t *crossing(uint64_t page)
{
	return (volatile uint64_t *)(page + 4096 - 4);
}

GUEST_INLINE uint64_t load(volatile uint64_t *p)
{
	uint64_t v;

	__asm__ volatile("movq %1, %0" : "=r"(v) : "m"(*p) : "memory");
	return v;
}

GUEST_INLINE void store(volatile uint64_t *p, uint64_t v)
{
	__asm__ volatile("movq %1, %0" : "=m"(*p) : "r"(v) : "memory");
}

GUEST_INLINE uint32_t load32(volatile uint64_t *p, unsigned half)
{
	uint32_t v;

	__asm__ volatile("movl %1, %0" : "=r"(v) : "m"(((volatile uint32_t *)p)[half]) : "memory");
	return v;
}

GUEST_INLINE void locked_inc(volatile uint64_t *p)
{
	__asm__ volatile("lock incq %0" : "+m"(*p) : : "memory", "cc");
}

GUEST static void meet(struct litmus_work *w)
{
	struct barrier *b = (struct barrier *)LITMUS_BARRIER;
	uint64_t mine = ++w->generation;
	unsigned spins = 0;

	if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_SEQ_CST) == w->threads * mine) {
		__atomic_store_n(&b->generation, mine, __ATOMIC_SEQ_CST);
		return;
	}
	while (__atomic_load_n(&b->generation, __ATOMIC_SEQ_CST) < mine)
		if (++spins % 20000 == 0)
			guest_out(LITMUS_PORT_YIELD);
}

/* A delay of up to 'longest' rounds, so that threads meet at ever other places. */
GUEST static void dawdle(struct litmus_work *w, uint64_t longest)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;
	for (uint64_t n = (w->random >> 33) % longest; n > 0; n--)
		__asm__ volatile("" : : : "memory");
}

/* One thread's part of a test on one cell. 'now' marks this batch; anything smaller is old. Returns up to three result bits; bit i: the i-th
 * load saw this batch's value. */
GUEST static uint64_t turn(uint64_t test, uint64_t thread, uint64_t c, uint64_t now)
{
	volatile uint64_t *x = cell(LITMUS_X, c), *y = cell(LITMUS_Y, c);
	uint64_t both = now << 32 | now, r0, r1;

	if (test == LITMUS_SB) {
		store(thread ? y : x, now);
		return load(thread ? x : y) == now;
	}
	if (test == LITMUS_SBF) {
		store(thread ? y : x, now);
		__asm__ volatile("mfence" : : : "memory");
		return load(thread ? x : y) == now;
	}
	if (test == LITMUS_MP && thread == 0) {
		store(x, now);
		store(y, now);
		return 0;
	}
	if (test == LITMUS_LB) {
		r0 = load(thread ? y : x);
		store(thread ? x : y, now);
		return r0 == now;
	}
	if (test == LITMUS_W22) {
		store(thread ? y : x, now);
		store(thread ? x : y, now + 1);
		return 0;
	}
	if (test == LITMUS_LOCK) {
		locked_inc(thread & 1 ? x : y);
		locked_inc(thread & 1 ? y : x);
		return 0;
	}
	if (test == LITMUS_CROSSLOCK) {
		locked_inc(crossing(LITMUS_X));
		return 0;
	}
	if (test == LITMUS_CROSS) {
		if (thread == 0) {
			store(crossing(LITMUS_X), (now + c) << 32 | (now + c));
			return 0;
		}
		r0 = load(crossing(LITMUS_X));
		/* Torn is allowed, foreign bytes are not: each half is old or of this batch. */
		return (uint32_t)r0 > now + LITMUS_CELLS || (r0 >> 32) > now + LITMUS_CELLS;
	}
	if (test == LITMUS_MIXED) {
		if (thread == 0) {
			store(x, both);
			return 0;
		}
		r0 = load32(x, 1) == (uint32_t)now;
		r1 = load32(x, 0) == (uint32_t)now;
		both = load(x);
		return r0 | r1 << 1 | (uint64_t)((uint32_t)both != both >> 32) << 2;
	}
	if (thread < 2 && test != LITMUS_MP && !(test == LITMUS_CORR && thread == 1)) { /* writers of IRIW and CORR */
		store(thread ? y : x, now);
		return 0;
	}
	if (test == LITMUS_CORR)
		y = x;
	else if (test == LITMUS_MP || thread == 3) { /* read y, then x */
		volatile uint64_t *t = x;

		x = y;
		y = t;
	}
	r0 = load(x) == now;
	r1 = load(y) == now;
	return r0 | r1 << 1;
}

/* 2+2W is judged by the values left: bit 0 set when both first stores won, which no order of x86 allows. */
GUEST static uint64_t left_by_w22(uint64_t c, uint64_t now)
{
	return load(cell(LITMUS_X, c)) == now && load(cell(LITMUS_Y, c)) == now;
}

__attribute__((section("litmus_text"), used, noreturn)) static void litmus_main(struct litmus_work *w)
{
	uint8_t *results = (uint8_t *)(LITMUS_RESULTS + w->thread * LITMUS_RESULT_BYTES);

	for (;;) {
		uint64_t at = 0;

		for (uint64_t batch = 0; batch < w->batches; batch++) {
			uint64_t now = (batch + 1) * 2 * LITMUS_CELLS;

			meet(w);
			dawdle(w, 32 * w->delay);
			for (uint64_t i = 0; i < LITMUS_CELLS; i++) {
				/* Odd threads walk the other way in odd batches, so that they meet in the middle as well as at the start. */
				uint64_t c = (batch & w->thread & 1) ? LITMUS_CELLS - 1 - i : i;

				dawdle(w, w->delay);
				results[at + c] = (uint8_t)turn(w->test, w->thread, c, now);
			}
			if (w->test == LITMUS_W22) {
				meet(w);
				for (uint64_t c = 0; c < LITMUS_CELLS && w->thread == 0; c++)
					results[at + c] = (uint8_t)left_by_w22(c, now);
			}
			at += LITMUS_CELLS;
		}
		guest_out(LITMUS_PORT_DONE);
	}
}

uint64_t litmus_entry_offset(void)
{
	return (uint64_t)((const uint8_t *)(uintptr_t)litmus_main - litmus_code);
}
