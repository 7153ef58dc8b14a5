/* vm/vcpu_image: the bytes of a vCPU's state, and what time does to its timer. */
#include "vm/vcpu_image.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

static struct vcpu_image image, back;
static uint8_t bytes[VCPU_IMAGE_BYTES_MAX + 1];

enum { LVT_TIMER = 0x320, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0, IRR = 0x200 };

static void put(struct kvm_lapic_state *l, unsigned at, uint32_t v)
{
	memcpy(l->regs + at, &v, sizeof v);
}

static uint32_t get(const struct kvm_lapic_state *l, unsigned at)
{
	uint32_t v;

	memcpy(&v, l->regs + at, sizeof v);
	return v;
}

/* Every byte of the fields is different from its neighbours; what is not sent (padding) is 0. */
static void fill(void)
{
	image = (struct vcpu_image){.xsave_bytes = VCPU_XSAVE_MIN + 256, .msrs = 3, .tsc = 0x1122334455667788, .tsc_deadline = 0x99, .mp = {4}};
	for (unsigned i = 0; i < sizeof image.regs; i++)
		((uint8_t *)&image.regs)[i] = (uint8_t)(i * 3 + 1);
	image.sregs.cs = (struct kvm_segment){.base = 1, .limit = 2, .selector = 3, .type = 4, .present = 1, .dpl = 3, .db = 1, .s = 1, .l = 1,
		.g = 1, .avl = 1, .unusable = 1};
	image.sregs.idt = (struct kvm_dtable){.base = 5, .limit = 6};
	image.sregs.cr8 = 7;
	image.sregs.pdptrs[3] = 8;
	image.debug.dr7 = 0x400;
	image.xcrs = (struct kvm_xcrs){.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = 7}};
	image.events = (struct kvm_vcpu_events){.exception = {.nr = 14, .has_error_code = 1, .pending = 1, .error_code = 2}, .nmi.pending = 1, .flags = 1,
		.exception_payload = 9};
	for (unsigned i = 0; i < sizeof image.lapic.regs; i++)
		image.lapic.regs[i] = (char)i;
	for (unsigned i = 0; i < image.xsave_bytes; i++)
		image.xsave[i] = (uint8_t)(i * 5);
	for (unsigned i = 0; i < image.msrs; i++)
		image.msr[i] = (struct vcpu_msr){.index = 0xc0000080 + i, .value = ~(uint64_t)i};
}

TEST(a_vcpu_comes_back_from_its_bytes)
{
	size_t n;

	fill();
	n = vcpu_image_put(&image, bytes);
	CHECK(n > VCPU_XSAVE_MIN && n <= VCPU_IMAGE_BYTES_MAX);
	CHECK(memcmp(bytes, "TVCU\1\0\0\0", 8) == 0);
	CHECK_EQ(vcpu_image_get(&back, bytes, n), 0);
	CHECK(memcmp(&image.regs, &back.regs, sizeof image.regs) == 0 && memcmp(&image.sregs, &back.sregs, sizeof image.sregs) == 0);
	CHECK(memcmp(&image.events, &back.events, sizeof image.events) == 0 && memcmp(&image.lapic, &back.lapic, sizeof image.lapic) == 0);
	CHECK(back.xsave_bytes == image.xsave_bytes && memcmp(image.xsave, back.xsave, image.xsave_bytes) == 0);
	CHECK(back.msrs == 3 && back.msr[2].index == 0xc0000082 && back.msr[2].value == ~(uint64_t)2 && back.tsc == image.tsc && back.mp.mp_state == 4);
	CHECK(back.debug.dr7 == 0x400 && back.xcrs.xcrs[0].value == 7 && back.tsc_deadline == 0x99);
	CHECK_EQ(vcpu_image_put(&back, bytes), n);
}

TEST(damaged_bytes_are_refused)
{
	size_t n;

	fill();
	n = vcpu_image_put(&image, bytes);
	for (size_t cut = 0; cut < n; cut += cut < 200 ? 1 : 97)
		CHECK_EQ(vcpu_image_get(&back, bytes, cut), -EBADMSG);
	CHECK_EQ(vcpu_image_get(&back, bytes, n + 1), -EBADMSG);
	for (size_t i = 0; i < n; i += i < 200 ? 1 : 97) {
		bytes[i] ^= 0x10;
		CHECK(vcpu_image_get(&back, bytes, n) < 0);
		bytes[i] ^= 0x10;
	}
	bytes[4] = VCPU_IMAGE_VERSION + 1;
	CHECK_EQ(vcpu_image_get(&back, bytes, n), -EPROTONOSUPPORT);
}

TEST(interrupts_merge)
{
	uint32_t more[VCPU_VECTOR_WORDS] = {[1] = 1 << 3, [7] = 1u << 31}, all[VCPU_VECTOR_WORDS];

	image = (struct vcpu_image){.msrs = 0};
	put(&image.lapic, IRR + 0x10, 1 << 4);
	vcpu_image_merge(&image, more);
	vcpu_image_pending(&image.lapic, all);
	CHECK(all[0] == 0 && all[1] == (1 << 4 | 1 << 3) && all[7] == 1u << 31);
}

TEST(a_timer_counts_on_while_it_travels)
{
	struct kvm_lapic_state l = {.regs = {0}}, m;

	put(&l, DIVIDE, 11); /* by one */
	put(&l, LVT_TIMER, 0x40);
	put(&l, INITIAL, 1000);
	put(&l, CURRENT, 600);
	m = l;
	vcpu_image_age(&l, 100);
	CHECK_EQ(get(&l, CURRENT), 500);
	CHECK(vcpu_image_timer_ran_out(&l, &m) == false);
	vcpu_image_age(&l, 5000);
	CHECK_EQ(get(&l, CURRENT), 1); /* at once, and once */
	CHECK_EQ(get(&l, IRR + 0x20), 0);
	put(&l, CURRENT, 0);
	CHECK(vcpu_image_timer_ran_out(&m, &l));
	vcpu_image_age(&l, 5);
	CHECK_EQ(get(&l, INITIAL), 0); /* it has fired: it does not again */

	put(&m, DIVIDE, 0); /* by two */
	vcpu_image_age(&m, 100);
	CHECK_EQ(get(&m, CURRENT), 550);
	put(&m, DIVIDE, 10); /* by 128 */
	vcpu_image_age(&m, 1280);
	CHECK_EQ(get(&m, CURRENT), 540);
}

TEST(a_periodic_timer_keeps_its_phase)
{
	struct kvm_lapic_state l = {.regs = {0}}, later;

	put(&l, DIVIDE, 11);
	put(&l, LVT_TIMER, 1 << 17 | 0x41);
	put(&l, INITIAL, 1000);
	put(&l, CURRENT, 300);
	later = l;
	vcpu_image_age(&later, 2500);
	CHECK_EQ(get(&later, IRR + 0x20), 1 << 1);
	CHECK_EQ(get(&later, CURRENT), 800); /* 300 to the first, 2200 of the next ones */
	CHECK(vcpu_image_timer_ran_out(&l, &later));
	put(&l, LVT_TIMER, 1 << 17 | 1 << 16 | 0x41); /* masked */
	vcpu_image_age(&l, 300);
	CHECK_EQ(get(&l, IRR + 0x20), 0);
	CHECK_EQ(get(&l, CURRENT), 1000);
	put(&l, LVT_TIMER, 2 << 17 | 0x41);
	vcpu_image_age(&l, 300); /* a deadline is none of its business */
	CHECK_EQ(get(&l, CURRENT), 1000);
}
