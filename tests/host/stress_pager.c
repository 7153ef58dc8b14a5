/* Races: threads of several fragments hammer shared pages through their pagers. Counters must come out exact, values must never go back, only outcomes
 * that x86-TSO allows may be seen, and everything must end. STRESS=N in the environment makes it N times as long. */
#include "tests/host/pager_bed.h"
#include "tests/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define BED(b, ...) \
	static struct bed b; \
	do { \
		int err_ = bed_make(&b, __VA_ARGS__); \
		if (bed_cannot_run(err_)) \
			SKIP("no right to userfaultfd for kernel-mode faults here"); \
		CHECK_EQ(err_, 0); \
	} while (0)

static unsigned stress(unsigned base)
{
	const char *more = getenv("STRESS");

	return base * (more ? (unsigned)atoi(more) : 1);
}

static uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* Threads with a number, on node (number % nodes). */
enum { CREW_MAX = 8 };

struct crew {
	struct bed *bed;
	unsigned size, rounds;
	void (*work)(struct crew *c, unsigned me);
	_Atomic unsigned arrived, turn;
	_Atomic unsigned wrong;
	uint64_t seen[CREW_MAX][2]; /* what each read in this turn */
	uint32_t words;             /* of the random walk */
	_Atomic uint64_t *sum;      /* by word: what was added */
};

struct hand {
	struct crew *crew;
	unsigned me;
};

static void *hand_run(void *arg)
{
	struct hand *h = arg;

	h->crew->work(h->crew, h->me);
	return NULL;
}

static void crew_run(struct crew *c)
{
	pthread_t thread[CREW_MAX];
	struct hand hand[CREW_MAX];

	for (unsigned i = 0; i < c->size; i++) {
		hand[i] = (struct hand){c, i};
		pthread_create(&thread[i], NULL, hand_run, &hand[i]);
	}
	for (unsigned i = 0; i < c->size; i++)
		pthread_join(thread[i], NULL);
}

/* All meet; the last one in calls 'judge' before any goes on. */
static void crew_meet(struct crew *c, unsigned round, bool (*judge)(struct crew *c, unsigned round))
{
	unsigned turn = c->turn;

	if (atomic_fetch_add(&c->arrived, 1) + 1 == c->size) {
		if (judge && !judge(c, round))
			c->wrong++;
		c->arrived = 0;
		c->turn++;
		return;
	}
	while (c->turn == turn)
		sched_yield();
}

static unsigned crew_node(const struct crew *c, unsigned me)
{
	return me % c->bed->nodes;
}

/* Locked increments, few words in few pages: the worst contention there is. */

enum { HOT_PAGES = 3, HOT_WORDS = 2 };

static uint64_t hot_page(const struct crew *c, unsigned i)
{
	return i % c->bed->nodes * c->bed->pages + i; /* homes differ */
}

static void count_work(struct crew *c, unsigned me)
{
	uint32_t random = 2463534242u + me;

	for (unsigned i = 0; i < c->rounds; i++) {
		uint32_t r = next_random(&random);

		atomic_fetch_add(bed_word(c->bed, crew_node(c, me), hot_page(c, r % HOT_PAGES), r >> 8 & (HOT_WORDS - 1)), 1);
	}
}

static void check_counts(struct test *self, unsigned nodes)
{
	BED(b, nodes, 16, 0, NULL);
	struct crew c = {.bed = &b, .size = nodes * 2, .rounds = stress(4000), .work = count_work};
	uint64_t sum = 0;

	crew_run(&c);
	for (unsigned i = 0; i < HOT_PAGES; i++)
		for (unsigned w = 0; w < HOT_WORDS; w++)
			sum += *bed_word(&b, i % nodes, hot_page(&c, i), w);
	CHECK_EQ(sum, c.size * c.rounds);
	bed_drop(&b);
}

TEST(counters_are_exact_on_two_nodes)
{
	check_counts(self, 2);
}

TEST(counters_are_exact_on_three_nodes)
{
	check_counts(self, 3);
}

TEST(counters_are_exact_on_four_nodes)
{
	check_counts(self, 4);
}

/* A random walk over more pages than the caches hold: loads, stores and locked adds while frames are evicted and prefetched. */

enum { WALK_PAGES = 512, WALK_STEPS = 8000 };

static void walk_check(struct crew *c, unsigned me, uint32_t word, uint64_t *last)
{
	uint64_t now = *bed_word(c->bed, crew_node(c, me), word / 4, word % 4 * 100);

	if (now < *last)
		c->wrong++; /* it only ever grows */
	*last = now;
}

static void walk_work(struct crew *c, unsigned me)
{
	uint64_t *last = calloc(c->words, sizeof *last);
	uint32_t random = 88172645u + me * 7919;

	for (unsigned i = 0; i < c->rounds; i++) {
		uint32_t r = next_random(&random), word = (r >> 8) % c->words, run = r % 16 == 0 ? 40 : 1;

		for (uint32_t w = word; w < word + run && w < c->words; w++) /* now and then a stretch, for the stream detector */
			if (r & 0x10) {
				atomic_fetch_add(bed_word(c->bed, crew_node(c, me), w / 4, w % 4 * 100), r & 0xff);
				atomic_fetch_add(&c->sum[w], r & 0xff);
			} else {
				walk_check(c, me, w, &last[w]);
			}
	}
	free(last);
}

static void check_walk(struct test *self, unsigned nodes)
{
	BED(b, nodes, WALK_PAGES, PAGER_CACHE_PAGES_MIN, NULL);
	struct crew c = {.bed = &b, .size = nodes * 2 < CREW_MAX ? nodes * 2 : CREW_MAX, .rounds = stress(WALK_STEPS), .work = walk_work, .words = nodes * WALK_PAGES * 4};

	c.sum = calloc(c.words, sizeof *c.sum);
	crew_run(&c);
	for (uint32_t w = 0; w < c.words; w++)
		for (unsigned n = 0; n < nodes; n++)
			CHECK_EQ(*bed_word(&b, n, w / 4, w % 4 * 100), c.sum[w]);
	CHECK_EQ(c.wrong, 0);
	for (unsigned n = 0; n < nodes; n++) {
		CHECK(bed_stats(&b, n).cached_pages_max <= PAGER_CACHE_PAGES_MIN);
		CHECK(bed_resident_kib(&b, n) <= (WALK_PAGES + PAGER_CACHE_PAGES_MIN) * 4);
	}
	CHECK(BED_SUM(&b, write_backs) > 0);
	CHECK(BED_SUM(&b, drops) > 0);
	free(c.sum);
	bed_drop(&b);
}

TEST(a_random_walk_beyond_the_caches_on_two_nodes)
{
	check_walk(self, 2);
}

TEST(a_random_walk_beyond_the_caches_on_four_nodes)
{
	check_walk(self, 4);
}

/* Litmus: X is homed at node 0, Y at node 1; each round has its own words, all zero at first. */

enum { LITMUS_PAGES = 16 };

static _Atomic uint64_t *litmus_word(struct crew *c, unsigned me, unsigned which, unsigned round)
{
	uint64_t page = which * c->bed->pages + round / 512 % LITMUS_PAGES;

	return bed_word(c->bed, crew_node(c, me), page, round % 512);
}
#define X(c, me) litmus_word(c, me, 0, round)
#define Y(c, me) litmus_word(c, me, 1, round)

/* Plain moves, in program order. */
static void store(_Atomic uint64_t *at, uint64_t v)
{
	atomic_store_explicit(at, v, memory_order_release);
}

static uint64_t load(_Atomic uint64_t *at)
{
	return atomic_load_explicit(at, memory_order_acquire);
}

static void mp_turn(struct crew *c, unsigned me, unsigned round)
{
	if (me == 0) {
		store(X(c, me), 1);
		store(Y(c, me), 1);
	} else {
		c->seen[me][0] = load(Y(c, me));
		c->seen[me][1] = load(X(c, me));
	}
}

static bool mp_judge(struct crew *c, unsigned round)
{
	return !(c->seen[1][0] == 1 && c->seen[1][1] == 0);
}

static void sb_turn(struct crew *c, unsigned me, unsigned round)
{
	atomic_store(me == 0 ? X(c, me) : Y(c, me), 1); /* with the fence: without it x86 allows both zero */
	c->seen[me][0] = load(me == 0 ? Y(c, me) : X(c, me));
}

static bool sb_judge(struct crew *c, unsigned round)
{
	return c->seen[0][0] || c->seen[1][0];
}

static void lb_turn(struct crew *c, unsigned me, unsigned round)
{
	c->seen[me][0] = load(me == 0 ? Y(c, me) : X(c, me));
	store(me == 0 ? X(c, me) : Y(c, me), 1);
}

static bool lb_judge(struct crew *c, unsigned round)
{
	return !(c->seen[0][0] && c->seen[1][0]);
}

static void iriw_turn(struct crew *c, unsigned me, unsigned round)
{
	if (me < 2) {
		store(me == 0 ? X(c, me) : Y(c, me), 1);
	} else {
		c->seen[me][0] = load(me == 2 ? X(c, me) : Y(c, me));
		c->seen[me][1] = load(me == 2 ? Y(c, me) : X(c, me));
	}
}

static bool iriw_judge(struct crew *c, unsigned round)
{
	return !(c->seen[2][0] == 1 && c->seen[2][1] == 0 && c->seen[3][0] == 1 && c->seen[3][1] == 0);
}

static void w22_turn(struct crew *c, unsigned me, unsigned round)
{
	store(me == 0 ? X(c, me) : Y(c, me), 1);
	store(me == 0 ? Y(c, me) : X(c, me), 2);
}

static bool w22_judge(struct crew *c, unsigned round)
{
	return !(load(X(c, 0)) == 1 && load(Y(c, 0)) == 1);
}

static void corr_turn(struct crew *c, unsigned me, unsigned round)
{
	if (me == 0) {
		store(X(c, me), 1);
	} else {
		c->seen[me][0] = load(X(c, me));
		c->seen[me][1] = load(X(c, me));
	}
}

static bool corr_judge(struct crew *c, unsigned round)
{
	return c->seen[1][0] <= c->seen[1][1];
}

static const struct litmus {
	const char *name;
	unsigned threads;
	void (*turn)(struct crew *c, unsigned me, unsigned round);
	bool (*judge)(struct crew *c, unsigned round);
} litmus[] = {
	{"MP", 2, mp_turn, mp_judge}, {"SB+fences", 2, sb_turn, sb_judge}, {"LB", 2, lb_turn, lb_judge},
	{"IRIW", 4, iriw_turn, iriw_judge}, {"2+2W", 2, w22_turn, w22_judge}, {"coRR", 2, corr_turn, corr_judge},
};
static const struct litmus *litmus_now;

static void litmus_work(struct crew *c, unsigned me)
{
	for (unsigned round = 0; round < c->rounds; round++) {
		crew_meet(c, round, NULL);
		litmus_now->turn(c, me, round);
		crew_meet(c, round, litmus_now->judge);
	}
}

static void check_litmus(struct test *self, unsigned nodes)
{
	for (unsigned i = 0; i < ARRAY_LEN(litmus); i++) {
		BED(b, nodes, LITMUS_PAGES, 0, NULL);
		struct crew c = {.bed = &b, .size = litmus[i].threads, .rounds = stress(1000), .work = litmus_work};

		if (c.rounds > 512 * LITMUS_PAGES)
			c.rounds = 512 * LITMUS_PAGES;
		litmus_now = &litmus[i];
		crew_run(&c);
		printf("     %s, %u nodes: %u rounds, %u forbidden outcomes\n", litmus[i].name, nodes, c.rounds, c.wrong);
		CHECK_EQ(c.wrong, 0);
		bed_drop(&b);
	}
}

TEST(litmus_on_two_nodes)
{
	check_litmus(self, 2);
}

TEST(litmus_on_four_nodes)
{
	check_litmus(self, 4);
}

/* A store across the boundary of two pages needs both at once, and both nodes want both all the time: holds must let somebody finish. */

__attribute__((no_sanitize("alignment"))) static void crossing_work(struct crew *c, unsigned me)
{
	volatile uint8_t *at = (volatile uint8_t *)bed_word(c->bed, crew_node(c, me), 4, 511);

	for (unsigned i = 0; i < c->rounds; i++) {
		volatile uint64_t *split = (volatile uint64_t *)(at + 4);

		*split = (uint64_t)(me + 1) * 0x0101010101010101ull;
	}
}

TEST(page_crossing_stores_make_progress)
{
	BED(b, 2, 16, 0, NULL);
	struct crew c = {.bed = &b, .size = 2, .rounds = stress(20000), .work = crossing_work};

	crew_run(&c);
	bed_drop(&b);
}

/* The same with several pages an instruction: a copy between two crossings touches four. */

static void four_pages_work(struct crew *c, unsigned me)
{
	uint8_t *from = (uint8_t *)bed_word(c->bed, crew_node(c, me), me ? 2 : 6, 511) + 4;
	uint8_t *to = (uint8_t *)bed_word(c->bed, crew_node(c, me), me ? 6 : 2, 511) + 4;

	for (unsigned i = 0; i < c->rounds; i++) {
		uint8_t *source = from, *target = to;

		__asm__ volatile("movsq" : "+S"(source), "+D"(target) : : "memory");
	}
}

TEST(four_pages_an_instruction_make_progress)
{
	BED(b, 2, 16, 0, NULL);
	struct crew c = {.bed = &b, .size = 2, .rounds = stress(2000), .work = four_pages_work};

	crew_run(&c);
	bed_drop(&b);
}
