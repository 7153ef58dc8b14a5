/* vm: exits become the accesses they are. The run page is made by hand. */
#include "tests/test.h"
#include "vm/exit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <linux/kvm.h>

struct heard {
	char text[512];
	int access_says;
	bool ended;
	enum exit_kind kind;
};

static int hear_access(void *owner, vcpu_t vcpu, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write)
{
	struct heard *h = owner;
	size_t used = strlen(h->text);
	uint64_t value = 0;

	memcpy(&value, data, bytes);
	snprintf(h->text + used, sizeof h->text - used, "%u %s %s %llx/%u %llx;", vcpu.v, space == BUS_PIO ? "pio" : "mmio", write ? "w" : "r",
	         (unsigned long long)addr, bytes, write ? (unsigned long long)value : 0);
	if (!write)
		memset(data, 0x5a, bytes);
	return h->access_says;
}

static void hear_eoi(void *owner, uint8_t vector)
{
	struct heard *h = owner;

	snprintf(h->text, sizeof h->text, "eoi %u;", vector);
}

static void hear_end(void *owner, vcpu_t vcpu, enum exit_kind kind, const char *text)
{
	struct heard *h = owner;

	h->ended = true;
	h->kind = kind;
	snprintf(h->text, sizeof h->text, "%s", text);
}

/* The run page with room for data behind it, as KVM maps it. */
struct page {
	struct kvm_run run;
	uint8_t data[64];
};

static int handle(struct page *p, struct heard *h)
{
	struct exit_sink sink = {.owner = h, .access = hear_access, .ioapic_eoi = hear_eoi, .end = hear_end};

	return exit_handle(&p->run, (vcpu_t){3}, &sink);
}

TEST(string_output_is_one_access_an_element)
{
	struct page p = {.run = {.exit_reason = KVM_EXIT_IO}, .data = {1, 2, 3, 4}};
	struct heard h = {0};

	p.run.io.direction = KVM_EXIT_IO_OUT;
	p.run.io.size = 2;
	p.run.io.count = 2;
	p.run.io.port = 0x3f8;
	p.run.io.data_offset = offsetof(struct page, data);
	CHECK_EQ(handle(&p, &h), 0);
	CHECK(strcmp(h.text, "3 pio w 3f8/2 201;3 pio w 3f8/2 403;") == 0);
}

TEST(input_lands_in_the_run_page)
{
	struct page p = {.run = {.exit_reason = KVM_EXIT_IO}};
	struct heard h = {0};

	p.run.io.direction = KVM_EXIT_IO_IN;
	p.run.io.size = 4;
	p.run.io.count = 1;
	p.run.io.port = 0xcfc;
	p.run.io.data_offset = offsetof(struct page, data);
	CHECK_EQ(handle(&p, &h), 0);
	CHECK(p.data[0] == 0x5a && p.data[3] == 0x5a && p.data[4] == 0);
}

TEST(memory_access_goes_to_its_address)
{
	struct page p = {.run = {.exit_reason = KVM_EXIT_MMIO}};
	struct heard h = {0};

	p.run.mmio.phys_addr = 0xfec00010;
	p.run.mmio.len = 4;
	p.run.mmio.is_write = 1;
	p.run.mmio.data[0] = 7;
	CHECK_EQ(handle(&p, &h), 0);
	CHECK(strcmp(h.text, "3 mmio w fec00010/4 7;") == 0);
}

TEST(a_stopping_machine_ends_a_string_access)
{
	struct page p = {.run = {.exit_reason = KVM_EXIT_IO}};
	struct heard h = {.access_says = -ESHUTDOWN};

	p.run.io.size = 1;
	p.run.io.count = 4;
	p.run.io.data_offset = offsetof(struct page, data);
	CHECK_EQ(handle(&p, &h), -ESHUTDOWN);
	CHECK(strcmp(h.text, "3 pio r 0/1 0;") == 0);
}

TEST(ends_are_told_apart)
{
	static const struct { uint32_t reason; enum exit_kind kind; } cases[] = {
		{KVM_EXIT_SHUTDOWN, EXIT_SHUTDOWN}, {KVM_EXIT_INTERNAL_ERROR, EXIT_BROKEN}, {KVM_EXIT_FAIL_ENTRY, EXIT_BROKEN}, {KVM_EXIT_HYPERCALL, EXIT_BROKEN},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct page p = {.run = {.exit_reason = cases[i].reason}};
		struct heard h = {0};

		CHECK_EQ(handle(&p, &h), -ECANCELED);
		CHECK(h.ended && h.kind == cases[i].kind);
	}
}

TEST(an_eoi_is_passed_on)
{
	struct page p = {.run = {.exit_reason = KVM_EXIT_IOAPIC_EOI}};
	struct heard h = {0};

	p.run.eoi.vector = 0x31;
	CHECK_EQ(handle(&p, &h), 0);
	CHECK(strcmp(h.text, "eoi 49;") == 0);
}
