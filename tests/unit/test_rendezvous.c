/* vm/rendezvous: all members do it or none, whoever is late. */
#include "vm/rendezvous.h"
#include "tests/test.h"

#include <errno.h>
#include <sched.h>

enum { MEMBERS = 4, CALLS = 30 };

struct meeting {
	struct rendezvous r;
	_Atomic unsigned met[CALLS + 1], off[CALLS + 1];
	_Atomic bool words_wrong;
	_Atomic bool hold; /* member 0 stays away */
};

struct member {
	struct meeting *m;
	unsigned index;
};

static void *member_main(void *arg)
{
	struct member *me = arg;
	struct meeting *m = me->m;
	unsigned seen = 0;

	while (seen < CALLS) {
		uint64_t what, tsc;

		while (!rendezvous_due(&m->r, seen) || (me->index == 0 && m->hold))
			sched_yield();
		if (rendezvous_meet(&m->r, &seen, &what, &tsc)) {
			m->met[seen]++;
			m->words_wrong |= what != seen * 10;
		} else {
			m->off[seen]++;
		}
	}
	return NULL;
}

static bool meeting_run(struct meeting *m)
{
	struct member member[MEMBERS];
	pthread_t thread[MEMBERS];

	if (rendezvous_init(&m->r, MEMBERS))
		return false;
	for (unsigned i = 0; i < MEMBERS; i++) {
		member[i] = (struct member){m, i};
		pthread_create(&thread[i], NULL, member_main, &member[i]);
	}
	for (unsigned call = 1; call <= CALLS; call++) {
		while (call > 1 && m->met[call - 1] + m->off[call - 1] < MEMBERS)
			sched_yield();
		m->hold = call % 10 == 7;
		if (rendezvous_call(&m->r, call * 10))
			return false;
		while (m->hold && m->off[call] < MEMBERS - 1)
			sched_yield();
		m->hold = false;
	}
	for (unsigned i = 0; i < MEMBERS; i++)
		pthread_join(thread[i], NULL);
	rendezvous_fini(&m->r);
	return true;
}

TEST(a_rendezvous_is_kept_by_all_or_by_none)
{
	static struct meeting m;
	unsigned met = 0;

	CHECK(meeting_run(&m));
	for (unsigned call = 1; call <= CALLS; call++) {
		CHECK_EQ(m.met[call] + m.off[call], MEMBERS);
		CHECK(m.met[call] == 0 || m.off[call] == 0);
		CHECK(call % 10 != 7 || m.off[call] == MEMBERS);
		met += m.met[call] != 0;
	}
	CHECK(!m.words_wrong);
	CHECK(met > 0);
}

TEST(a_rendezvous_is_not_called_while_one_goes_on)
{
	struct rendezvous r;
	unsigned seen = 0;
	uint64_t what, tsc;

	CHECK_EQ(rendezvous_init(&r, 2), 0);
	CHECK(!rendezvous_due(&r, seen));
	CHECK_EQ(rendezvous_call(&r, 1), 0);
	CHECK_EQ(rendezvous_call(&r, 2), -EBUSY);
	CHECK(rendezvous_due(&r, seen));
	CHECK(!rendezvous_meet(&r, &seen, &what, &tsc)); /* the other does not come in time */
	CHECK_EQ(rendezvous_call(&r, 2), -EBUSY);
	CHECK(!rendezvous_due(&r, seen));
	seen = 0;
	CHECK(!rendezvous_meet(&r, &seen, &what, &tsc)); /* it comes too late */
	CHECK_EQ(rendezvous_call(&r, 2), 0);
	rendezvous_fini(&r);
}
