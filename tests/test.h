/* The house's unit-test frame: TEST(name) { CHECK(...); } in any file, linked with tests/test.c, one program a room.
 * A failed CHECK prints its place and ends that test; the program exits 1 if any test failed, 77 if all were skipped. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <stdbool.h>
#include <stdio.h>

struct test {
	const char *name;
	void (*run)(struct test *self);
	struct test *next;
	bool failed, skipped;
};

void test_add(struct test *t);
void test_fail(struct test *t, const char *file, int line, const char *what);

#define TEST(id) \
	static void test_##id(struct test *self); \
	static struct test test_##id##_entry = {.name = #id, .run = test_##id}; \
	__attribute__((constructor)) static void test_##id##_add(void) { test_add(&test_##id##_entry); } \
	static void test_##id(__attribute__((unused)) struct test *self)

#define CHECK(cond) do { if (!(cond)) { test_fail(self, __FILE__, __LINE__, #cond); return; } } while (0)

/* Two integers; prints both values when they differ. */
#define CHECK_EQ(a, b) do { \
	long long a_ = (long long)(a), b_ = (long long)(b); \
	if (a_ != b_) { \
		char text_[256]; \
		snprintf(text_, sizeof text_, "%s == %s: %lld (0x%llx) against %lld (0x%llx)", #a, #b, a_, (unsigned long long)a_, b_, (unsigned long long)b_); \
		test_fail(self, __FILE__, __LINE__, text_); \
		return; \
	} \
} while (0)

#define SKIP(why) do { printf("SKIP %s: %s\n", self->name, why); self->skipped = true; return; } while (0)

#endif
