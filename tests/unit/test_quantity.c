/* Sizes and counts as people write them, and names that become file names. */
#include "base/quantity.h"
#include "base/rundir.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

TEST(sizes_are_read)
{
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{"0", 0}, {"4096", 4096}, {"1k", 1024}, {"512M", 512 << 20}, {"512MiB", 512 << 20}, {"512mb", 512 << 20}, {"2G", 2ull << 30},
		{"8388607T", 8388607ull << 40}, {"100B", 100}, {"9223372036854775807", INT64_MAX},
	};
	static const struct { const char *text; int err; } bad[] = {
		{"", -EINVAL}, {"M", -EINVAL}, {"-1", -EINVAL}, {"+1", -EINVAL}, {" 1", -EINVAL}, {"1 ", -EINVAL}, {"1.5G", -EINVAL}, {"1MM", -EINVAL}, {"1Mi", -EINVAL},
		{"0x10", -EINVAL}, {"1iB", -EINVAL}, {"8388608T", -ERANGE}, {"9223372036854775808", -ERANGE}, {"99999999999999999999999", -ERANGE},
	};
	uint64_t v;

	for (unsigned k = 0; k < ARRAY_LEN(good); k++) {
		CHECK_EQ(quantity_read_bytes(good[k].text, NULL, &v), 0);
		CHECK_EQ(v, good[k].bytes);
	}
	for (unsigned k = 0; k < ARRAY_LEN(bad); k++)
		CHECK_EQ(quantity_read_bytes(bad[k].text, NULL, &v), bad[k].err);
}

TEST(counts_are_read_up_to_their_limit)
{
	const char *text = "12,34";
	uint64_t v;

	CHECK_EQ(quantity_read_count(text, text + 2, 64, &v), 0);
	CHECK_EQ(v, 12);
	CHECK_EQ(quantity_read_count(text, NULL, 64, &v), -EINVAL);
	CHECK_EQ(quantity_read_count("65", NULL, 64, &v), -ERANGE);
	CHECK_EQ(quantity_read_count("", NULL, 64, &v), -EINVAL);
}

TEST(sizes_are_printed_short)
{
	static const struct { uint64_t bytes; const char *text; } at[] = {
		{0, "0"}, {1023, "1023"}, {1024, "1K"}, {1536, "1.5K"}, {512 << 20, "512M"}, {(512 << 20) + 1, "512M"}, {1288490189, "1.2G"}, {INT64_MAX, "8388607.9T"},
	};
	char text[QUANTITY_TEXT_BYTES];

	for (unsigned k = 0; k < ARRAY_LEN(at); k++)
		CHECK(strcmp(quantity_print_bytes(at[k].bytes, text), at[k].text) == 0);
}

TEST(names_are_harmless_file_names)
{
	CHECK(rundir_good_name("vm1") && rundir_good_name("a.b_c-D9"));
	CHECK(!rundir_good_name("") && !rundir_good_name(".") && !rundir_good_name("..") && !rundir_good_name("a/b") && !rundir_good_name("-a") &&
	      !rundir_good_name("a b") && !rundir_good_name("\xc3\xa4"));
	CHECK(!rundir_good_name("0123456789012345678901234567890123456789012345678901234567890123"));
}
