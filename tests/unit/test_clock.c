/* vm/clock: the difference between two TSCs is found within its stated bound, follows drift, and is exactly 0 for one shared TSC; scaling is KVM's. */
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

	CHECK(!clock_difference(&c, 0, &got, &error));
	for (uint64_t i = 0; i < 40; i++) {
		struct clock_echo e = exchange(1000000 * (i + 1), -123456789, 20000 + i * 977 % 50000, 30000 + i * 1777 % 90000);

		clock_add(&c, &e);
		CHECK(clock_difference(&c, e.returned, &got, &error));
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
	CHECK(clock_difference(&c, e.returned, &got, &error));
	CHECK_EQ(got, 0);
}

/* Echoes five times a second over a path of 20 to 200 us each way, between hosts whose clocks run apart by so many billionths. */
static int64_t worst_when_drifting(struct clock_estimate *c, int64_t ppb, bool *bounded, int64_t *worst_later)
{
	const uint64_t khz = 2000000;
	int64_t worst = 0;

	*bounded = true;
	*worst_later = 0;
	c->khz = (uint32_t)khz;
	for (uint64_t i = 1; i <= 1000; i++) {
		uint64_t t = i * khz * 200, jitter = i % 10 ? i * 2654435761u % 360000 : i % 7 * 3000, error;
		int64_t ahead = 5000000000 + (int64_t)t / 1000000 * ppb / 1000, got, off;
		struct clock_echo e = exchange(t, ahead, 40000 + jitter, 40000 + jitter * 7 % 360000);

		clock_add(c, &e);
		if (!clock_difference(c, e.returned, &got, &error))
			return -1;
		off = distance(got, ahead);
		*bounded &= (uint64_t)off <= error;
		worst = off > worst ? off : worst;
		if (i > 200)
			*worst_later = off > *worst_later ? off : *worst_later;
	}
	return worst;
}

TEST(clock_follows_drift)
{
	static const int64_t ppb[] = {0, 3000, -3000, 50000, -50000, 99000, -99000};

	for (unsigned i = 0; i < sizeof ppb / sizeof ppb[0]; i++) {
		struct clock_estimate c = {0};
		bool bounded;
		int64_t later, worst = worst_when_drifting(&c, ppb[i], &bounded, &later);

		printf("     %lld ppb: worst %lld, after 40 s %lld cycles, drift found %lld\n", (long long)ppb[i], (long long)worst, (long long)later,
		       (long long)clock_drift(&c));
		CHECK(worst >= 0);
		CHECK(bounded);
		CHECK(later < 2000 * 60); /* 60 us, on a path whose jitter is 180 */
		CHECK(distance(clock_drift(&c), ppb[i]) < 3000);
	}
}

TEST(clock_scales_as_kvm_does)
{
	struct clock_scale near = clock_scale_between(2294608, 2294610, 48), up = clock_scale_between(2000000, 3000000, 48), down = clock_scale_between(3000000, 2000000, 32);

	CHECK_EQ(near.ratio, 0);
	CHECK_EQ(clock_scaled(&near, 123456789012345), 123456789012345);
	CHECK_EQ(up.ratio, 3ull << 47);
	CHECK_EQ(clock_scaled(&up, 2000000000000000), 3000000000000000);
	CHECK_EQ(down.ratio, (2ull << 32) / 3);
	CHECK_EQ(clock_scaled(&down, 3ull << 32), 2 * (3ull << 32) / 3 - 2); /* the ratio is cut off, not rounded */
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
	CHECK(!clock_difference(&c, 0, &got, &error));
	CHECK_EQ(clock_round_trip(&c), 0);
}
