/* base: the first failure is kept, numbers convert. */
#include "base/ends.h"
#include "base/failure.h"
#include "base/histogram.h"
#include "base/text.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

TEST(failure_keeps_the_first_cause)
{
	struct failure f = {0};

	CHECK_EQ(failure_set(&f, -EINVAL, "do this", "first %d", 1), -EINVAL);
	CHECK_EQ(failure_set(&f, -EIO, "do that", "second"), -EIO);
	CHECK_EQ(f.err, -EINVAL);
	CHECK(strcmp(f.what, "first 1") == 0 && strcmp(f.todo, "do this") == 0);
}

TEST(gpa_and_gfn_convert)
{
	CHECK_EQ(gpa_gfn((gpa_t){0x12345678}).v, 0x12345);
	CHECK_EQ(gfn_gpa((gfn_t){0x100000}).v, 0x100000000);
}

TEST(a_histogram_knows_its_median_and_tail)
{
	static struct histogram h;

	CHECK_EQ(histogram_permille(&h, 500), 0);
	for (uint64_t v = 1; v <= 100000; v++)
		histogram_add(&h, v);
	CHECK_EQ(histogram_count(&h), 100000);
	CHECK(histogram_permille(&h, 500) > 47000 && histogram_permille(&h, 500) < 53000);
	CHECK(histogram_permille(&h, 990) > 94000 && histogram_permille(&h, 990) < 104000);
	histogram_add(&h, UINT64_MAX);
	CHECK(histogram_permille(&h, 1000) >= 1ull << (HISTOGRAM_BITS_MAX - 1));
}

TEST(ends_are_read_not_suffered)
{
	struct signalfd_siginfo info;
	sigset_t before;
	int fd = ends_watch(SIGWINCH, &before);

	CHECK(fd >= 0 && read(fd, &info, sizeof info) < 0 && errno == EAGAIN);
	for (unsigned i = 0; i < 4; i++) {
		int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGWINCH};

		CHECK(raise(signals[i]) == 0 && read(fd, &info, sizeof info) == sizeof info);
		CHECK_EQ(info.ssi_signo, signals[i]);
	}
	CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0 && close(fd) == 0);
}

TEST(text_clean_leaves_what_prints)
{
	static const struct { const char *from, *to; } cases[] = {{"", ""}, {"plain, ~", "plain, ~"}, {"a\x1b[31m\nb\x7f", "a?[31m?b?"},
		{"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"}, {"\xe4z", "?z"}, {"\xc2\x9b" "1m", "??1m"},
		{"\xc0\xaf", "??"}, {"\xe0\x80\xaf", "???"}, {"\xed\xa0\x80", "???"}, {"\xf4\x90\x80\x80", "????"}, {"\xe2\x82", "??"}, {"\xff\xfe", "??"}};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		char text[32];

		TEXT_SET(text, cases[i].from);
		text_clean(text);
		CHECK(strcmp(text, cases[i].to) == 0);
	}
}
