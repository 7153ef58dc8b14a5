/* See vcpu_image.h. */
#include "vm/vcpu_image.h"

#include <errno.h>
#include <string.h>

#include "base/ensure.h"

enum {
	IMAGE_MAGIC = 0x55435654, /* "TVCU" */
	IMAGE_HEAD_BYTES = 16,    /* magic, version, length, checksum */
	LAPIC_IRR = 0x200,        /* eight registers, 16 bytes apart */
	LAPIC_LVT_TIMER = 0x320,
	LAPIC_TIMER_INITIAL = 0x380,
	LAPIC_TIMER_CURRENT = 0x390,
	LAPIC_TIMER_DIVIDE = 0x3e0,
	TIMER_MODE_PERIODIC = 1 << 17, /* SDM 3A 11.5.1 */
	TIMER_MODE_DEADLINE = 2 << 17,
	LVT_MASKED = 1 << 16,
	LAPIC_STRIDE = 16,
};

/* A cursor that writes the fields or reads them. 'bad' latches. */
struct cursor {
	uint8_t *to;         /* writing */
	const uint8_t *from; /* reading; NULL: writing */
	size_t at, end;
	bool bad;
};

static uint64_t walk_int(struct cursor *c, uint64_t v, unsigned bytes)
{
	uint64_t got = 0;

	if (c->bad || c->end - c->at < bytes) {
		c->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++) {
		if (c->from)
			got |= (uint64_t)c->from[c->at + i] << 8 * i;
		else
			c->to[c->at + i] = (uint8_t)(v >> 8 * i);
	}
	c->at += bytes;
	return c->from ? got : v;
}

#define WALK(c, field) do { \
	uint64_t value_ = walk_int(c, (uint64_t)(field), sizeof(field)); \
	if ((c)->from) \
		(field) = (__typeof__(field))value_; \
} while (0)

static void walk_bytes(struct cursor *c, void *bytes, size_t n)
{
	if (c->bad || c->end - c->at < n) {
		c->bad = true;
		return;
	}
	if (c->from)
		memcpy(bytes, c->from + c->at, n);
	else
		memcpy(c->to + c->at, bytes, n);
	c->at += n;
}

static void walk_regs(struct cursor *c, struct kvm_regs *r)
{
	__u64 *const all[] = {&r->rax, &r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi, &r->rsp, &r->rbp, &r->r8, &r->r9, &r->r10, &r->r11, &r->r12, &r->r13, &r->r14,
		&r->r15, &r->rip, &r->rflags};

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		WALK(c, *all[i]);
}

static void walk_segment(struct cursor *c, struct kvm_segment *s)
{
	WALK(c, s->base);
	WALK(c, s->limit);
	WALK(c, s->selector);
	WALK(c, s->type);
	WALK(c, s->present);
	WALK(c, s->dpl);
	WALK(c, s->db);
	WALK(c, s->s);
	WALK(c, s->l);
	WALK(c, s->g);
	WALK(c, s->avl);
	WALK(c, s->unusable);
}

static void walk_sregs(struct cursor *c, struct kvm_sregs2 *s)
{
	struct kvm_segment *const segments[] = {&s->cs, &s->ds, &s->es, &s->fs, &s->gs, &s->ss, &s->tr, &s->ldt};
	__u64 *const control[] = {&s->cr0, &s->cr2, &s->cr3, &s->cr4, &s->cr8, &s->efer, &s->apic_base, &s->flags};

	for (unsigned i = 0; i < ARRAY_LEN(segments); i++)
		walk_segment(c, segments[i]);
	WALK(c, s->gdt.base);
	WALK(c, s->gdt.limit);
	WALK(c, s->idt.base);
	WALK(c, s->idt.limit);
	for (unsigned i = 0; i < ARRAY_LEN(control); i++)
		WALK(c, *control[i]);
	for (unsigned i = 0; i < ARRAY_LEN(s->pdptrs); i++)
		WALK(c, s->pdptrs[i]);
}

static void walk_events(struct cursor *c, struct kvm_vcpu_events *e)
{
	WALK(c, e->exception.injected);
	WALK(c, e->exception.nr);
	WALK(c, e->exception.has_error_code);
	WALK(c, e->exception.pending);
	WALK(c, e->exception.error_code);
	WALK(c, e->interrupt.injected);
	WALK(c, e->interrupt.nr);
	WALK(c, e->interrupt.soft);
	WALK(c, e->interrupt.shadow);
	WALK(c, e->nmi.injected);
	WALK(c, e->nmi.pending);
	WALK(c, e->nmi.masked);
	WALK(c, e->sipi_vector);
	WALK(c, e->flags);
	WALK(c, e->smi.smm);
	WALK(c, e->smi.pending);
	WALK(c, e->smi.smm_inside_nmi);
	WALK(c, e->smi.latched_init);
	WALK(c, e->triple_fault.pending);
	WALK(c, e->exception_has_payload);
	WALK(c, e->exception_payload);
}

static void walk_debug(struct cursor *c, struct kvm_debugregs *d)
{
	for (unsigned i = 0; i < ARRAY_LEN(d->db); i++)
		WALK(c, d->db[i]);
	WALK(c, d->dr6);
	WALK(c, d->dr7);
	WALK(c, d->flags);
}

static void walk_xcrs(struct cursor *c, struct kvm_xcrs *x)
{
	WALK(c, x->nr_xcrs);
	c->bad |= x->nr_xcrs > KVM_MAX_XCRS;
	for (unsigned i = 0; !c->bad && i < x->nr_xcrs; i++) {
		WALK(c, x->xcrs[i].xcr);
		WALK(c, x->xcrs[i].value);
	}
}

/* In ascending order, so that none is there twice. */
static void walk_msrs(struct cursor *c, struct vcpu_image *s)
{
	WALK(c, s->msrs);
	c->bad |= s->msrs > VCPU_MSRS_MAX;
	for (unsigned i = 0; !c->bad && i < s->msrs; i++) {
		WALK(c, s->msr[i].index);
		WALK(c, s->msr[i].value);
		c->bad |= i > 0 && s->msr[i].index <= s->msr[i - 1].index;
	}
}

static void image_walk(struct cursor *c, struct vcpu_image *s)
{
	walk_regs(c, &s->regs);
	walk_sregs(c, &s->sregs);
	walk_debug(c, &s->debug);
	walk_xcrs(c, &s->xcrs);
	walk_events(c, &s->events);
	WALK(c, s->mp.mp_state);
	walk_bytes(c, s->lapic.regs, sizeof s->lapic.regs);
	WALK(c, s->tsc);
	WALK(c, s->tsc_deadline);
	WALK(c, s->xsave_bytes);
	c->bad |= s->xsave_bytes < VCPU_XSAVE_MIN || s->xsave_bytes > VCPU_XSAVE_MAX || s->xsave_bytes % 4;
	if (!c->bad)
		walk_bytes(c, s->xsave, s->xsave_bytes);
	walk_msrs(c, s);
}

/* CRC-32 as of IEEE 802.3: damage, not malice, is what it finds. */
static uint32_t checksum(const uint8_t *at, size_t bytes)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < bytes; i++) {
		crc ^= at[i];
		for (unsigned b = 0; b < 8; b++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

struct head {
	uint32_t magic, version, bytes, checksum;
};

static void head_walk(struct cursor *c, struct head *h)
{
	WALK(c, h->magic);
	WALK(c, h->version);
	WALK(c, h->bytes);
	WALK(c, h->checksum);
}

size_t vcpu_image_put(const struct vcpu_image *s, uint8_t *to)
{
	struct cursor body = {.to = to, .at = IMAGE_HEAD_BYTES, .end = VCPU_IMAGE_BYTES_MAX}, front = {.to = to, .end = IMAGE_HEAD_BYTES};
	struct vcpu_image *fields = (struct vcpu_image *)s; /* a writing walk changes nothing */
	struct head h = {.magic = IMAGE_MAGIC, .version = VCPU_IMAGE_VERSION};

	image_walk(&body, fields);
	ensure(!body.bad);
	h.bytes = (uint32_t)(body.at - IMAGE_HEAD_BYTES);
	h.checksum = checksum(to + IMAGE_HEAD_BYTES, h.bytes);
	head_walk(&front, &h);
	return body.at;
}

int vcpu_image_get(struct vcpu_image *s, const uint8_t *from, size_t bytes)
{
	struct cursor c = {.from = from, .end = bytes};
	struct head h = {.magic = 0};

	*s = (struct vcpu_image){.msrs = 0};
	head_walk(&c, &h);
	if (c.bad || h.magic != IMAGE_MAGIC || h.bytes != bytes - IMAGE_HEAD_BYTES || bytes > VCPU_IMAGE_BYTES_MAX)
		return -EBADMSG;
	if (h.version != VCPU_IMAGE_VERSION)
		return -EPROTONOSUPPORT;
	if (h.checksum != checksum(from + IMAGE_HEAD_BYTES, h.bytes))
		return -EBADMSG;
	image_walk(&c, s);
	return c.bad || c.at != c.end ? -EBADMSG : 0;
}

static uint32_t lapic_get(const struct kvm_lapic_state *l, unsigned offset)
{
	uint32_t v;

	memcpy(&v, l->regs + offset, sizeof v);
	return v;
}

static void lapic_put(struct kvm_lapic_state *l, unsigned offset, uint32_t v)
{
	memcpy(l->regs + offset, &v, sizeof v);
}

void vcpu_image_pending(const struct kvm_lapic_state *l, uint32_t pending[VCPU_VECTOR_WORDS])
{
	for (unsigned i = 0; i < VCPU_VECTOR_WORDS; i++)
		pending[i] = lapic_get(l, LAPIC_IRR + i * LAPIC_STRIDE);
}

void vcpu_image_merge(struct vcpu_image *s, const uint32_t pending[VCPU_VECTOR_WORDS])
{
	for (unsigned i = 0; i < VCPU_VECTOR_WORDS; i++)
		lapic_put(&s->lapic, LAPIC_IRR + i * LAPIC_STRIDE, lapic_get(&s->lapic, LAPIC_IRR + i * LAPIC_STRIDE) | pending[i]);
}

/* KVM's LAPIC counts nanoseconds (KVM_CAP_X86_APIC_BUS_CYCLES_NS, whose default is 1), divided as the guest says (SDM 3A 11.5.4). */
static unsigned timer_divide_shift(const struct kvm_lapic_state *l)
{
	uint32_t v = lapic_get(l, LAPIC_TIMER_DIVIDE);

	return ((v & 3) | (v & 8) >> 1) == 7 ? 0 : ((v & 3) | (v & 8) >> 1) + 1;
}

bool vcpu_image_timer_ran_out(const struct kvm_lapic_state *before, const struct kvm_lapic_state *after)
{
	uint32_t was = lapic_get(before, LAPIC_TIMER_CURRENT), is = lapic_get(after, LAPIC_TIMER_CURRENT), mode = lapic_get(after, LAPIC_LVT_TIMER);

	if (mode & TIMER_MODE_DEADLINE)
		return false;
	return mode & TIMER_MODE_PERIODIC ? is > was : was != 0 && is == 0;
}

static void lapic_raise(struct kvm_lapic_state *l, unsigned vector)
{
	unsigned at = LAPIC_IRR + vector / 32 * LAPIC_STRIDE;

	lapic_put(l, at, lapic_get(l, at) | 1u << vector % 32);
}

void vcpu_image_age(struct kvm_lapic_state *l, uint64_t ns)
{
	uint32_t left = lapic_get(l, LAPIC_TIMER_CURRENT), period = lapic_get(l, LAPIC_TIMER_INITIAL), mode = lapic_get(l, LAPIC_LVT_TIMER);
	uint64_t passed = ns >> timer_divide_shift(l);

	if (period == 0 || mode & TIMER_MODE_DEADLINE)
		return;
	if (!(mode & TIMER_MODE_PERIODIC) && left == 0)
		lapic_put(l, LAPIC_TIMER_INITIAL, 0);
	else if (passed < left)
		lapic_put(l, LAPIC_TIMER_CURRENT, left - (uint32_t)passed);
	else if (!(mode & TIMER_MODE_PERIODIC))
		lapic_put(l, LAPIC_TIMER_CURRENT, 1);
	else {
		if (!(mode & LVT_MASKED))
			lapic_raise(l, mode & 0xff);
		lapic_put(l, LAPIC_TIMER_CURRENT, period - (uint32_t)((passed - left) % period));
	}
}
