/* Runs every TEST of the program, or those whose names are given as arguments. */
#include "tests/test.h"

#include <string.h>

static struct test *tests;

void test_add(struct test *t)
{
	t->next = tests;
	tests = t;
}

void test_fail(struct test *t, const char *file, int line, const char *what)
{
	printf("FAIL %s: %s:%d: %s\n", t->name, file, line, what);
	t->failed = true;
}

static bool test_wanted(const struct test *t, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], t->name) == 0)
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	int ran = 0, failed = 0, skipped = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (struct test *t = tests; t; t = t->next) {
		if (!test_wanted(t, argc, argv))
			continue;
		t->run(t);
		ran++;
		failed += t->failed;
		skipped += t->skipped;
		if (!t->failed && !t->skipped)
			printf("ok   %s\n", t->name);
	}
	printf("%d passed, %d failed, %d skipped\n", ran - failed - skipped, failed, skipped);
	if (failed || ran == 0)
		return 1;
	return skipped == ran ? 77 : 0;
}
