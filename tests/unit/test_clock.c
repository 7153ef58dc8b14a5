/* vm/clock: the difference between two TSCs is found within its stated bound, follows drift, and is exactly 0 for one shared TSC. */
#include "tests/test.h"
#include "vm/clock.h"

/* An exchange begun at local time t with the peer 'ahead' cycles in front and the given one-way times. */
static struct clock_echo exchange(uint64_t t, int64_t ahead, uint64_t there, uint64_t back)
{
	uint64_t received = (uint64_t)((int64_t)(t + there) + ahead);

	return (struct clock_echo){.sent = t, .received = received, .replied = received + 500, .returned = t + there + 500 + back};
}

static int64_t distance(int64_t a, int64_t b)
{
	return a < b ? b - a : a - b;
}

TEST(clock_error_is_within_half_the_round_trip)
{
	struct clock_estimate c = {0};
	int64_t got;
	uint64_t error;

	CHECK(!clock_difference(&c, &got, &error));
	for (uint64_t i = 0; i < 40; i++) {
		struct clock_echo e = exchange(1000000 * (i + 1), -123456789, 20000 + i * 977 % 50000, 30000 + i * 1777 % 90000);

		clock_add(&c, &e);
		CHECK(clock_difference(&c, &got, &error));
		CHECK((uint64_t)distance(got, -123456789) <= error);
	}
	CHECK(error < 100000);
}

TEST(clock_says_zero_for_a_shared_tsc)
{
	struct clock_estimate c = {0};
	struct clock_echo e = exchange(777, 0, 9000, 90000); /* as lopsided as can be */
	int64_t got = 1;
	uint64_t error;

	clock_add(&c, &e);
	CHECK(clock_difference(&c, &got, &error));
	CHECK_EQ(got, 0);
}

TEST(clock_follows_drift)
{
	struct clock_estimate c = {0};
	int64_t got = 0;
	uint64_t error = 0;

	for (int64_t i = 0; i < 1000; i++) {
		struct clock_echo e = exchange(1000000 * (uint64_t)(i + 1), 5000000 + i * 100, 3000, 3000);

		clock_add(&c, &e);
		CHECK(clock_difference(&c, &got, &error));
	}
	CHECK(distance(got, 5000000 + 999 * 100) <= (int64_t)error + CLOCK_WINDOW * 100);
}

TEST(clock_ignores_a_lying_peer)
{
	struct clock_estimate c = {0};
	struct clock_echo backwards = {.sent = 100, .received = 900, .replied = 200, .returned = 300};
	struct clock_echo longer_than_the_trip = {.sent = 100, .received = 200, .replied = 9000, .returned = 300};
	int64_t got;
	uint64_t error;

	clock_add(&c, &backwards);
	clock_add(&c, &longer_than_the_trip);
	CHECK(!clock_difference(&c, &got, &error));
	CHECK_EQ(clock_round_trip(&c), 0);
}
