/* See leaves.h. What comes from another node is judged before it is believed. */
#include "vm/leaves.h"

#include <errno.h>

#include "wire/codec.h"

size_t leaves_pack(const struct cpuid_table *t, uint8_t *to, size_t room)
{
	struct wire_out o = {.at = to, .end = to + room};

	wire_put_u32(&o, t->leaves);
	wire_put_u32(&o, t->tsc_khz);
	wire_put_u64(&o, t->arch_capabilities);
	for (unsigned k = 0; k < t->leaves; k++) {
		const struct cpuid_leaf *l = &t->leaf[k];

		wire_put_u32(&o, l->leaf);
		wire_put_u32(&o, l->index);
		wire_put_u32(&o, l->indexed);
		for (unsigned r = 0; r < 4; r++)
			wire_put_u32(&o, l->reg[r]);
	}
	return o.bad ? 0 : (size_t)(o.at - to);
}

int leaves_unpack(struct cpuid_table *t, const uint8_t *from, size_t bytes)
{
	struct wire_in i = {.at = from, .end = from + bytes};

	*t = (struct cpuid_table){.leaves = wire_get_u32(&i)};
	t->tsc_khz = wire_get_u32(&i);
	t->arch_capabilities = wire_get_u64(&i);
	if (t->leaves > CPUID_LEAVES_MAX)
		return -EBADMSG;
	for (unsigned k = 0; k < t->leaves; k++) {
		struct cpuid_leaf *l = &t->leaf[k];
		uint32_t indexed;

		l->leaf = wire_get_u32(&i);
		l->index = wire_get_u32(&i);
		indexed = wire_get_u32(&i);
		if (indexed > 1)
			return -EBADMSG;
		l->indexed = indexed;
		for (unsigned r = 0; r < 4; r++)
			l->reg[r] = wire_get_u32(&i);
	}
	return wire_finish(&i);
}
