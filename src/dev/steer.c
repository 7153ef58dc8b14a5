/* See steer.h. */
#include "dev/steer.h"

#include "base/ensure.h"

#include <string.h>

enum { TYPE_AT = 12, TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd, TYPE_VLAN = 0x8100, PROTO_TCP = 6, PROTO_UDP = 17, IPV4_BYTES = 20, IPV6_BYTES = 40 };

static unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* Ports, the same for either direction. */
static uint32_t ports(const uint8_t *at, size_t bytes, unsigned proto)
{
	return (proto == PROTO_TCP || proto == PROTO_UDP) && bytes >= 4 ? get16(at) + get16(at + 2) : 0;
}

static uint32_t mix(uint32_t h)
{
	h = (h ^ h >> 16) * 0x85ebca6b;
	h = (h ^ h >> 13) * 0xc2b2ae35;
	return h ^ h >> 16;
}

/* 0: no flow. */
static uint32_t flow_of(const uint8_t *frame, size_t bytes)
{
	size_t at = TYPE_AT;
	uint32_t h = 0;

	if (bytes >= at + 6 && get16(frame + at) == TYPE_VLAN)
		at += 4;
	if (bytes >= at + 2 + IPV4_BYTES && get16(frame + at) == TYPE_IPV4) {
		const uint8_t *ip = frame + at + 2;
		size_t head = 4 * (ip[0] & 15u), rest = bytes - at - 2;
		bool part = get16(ip + 6) & 0x3fff; /* more fragments, or not the first: no ports */

		h = get32(ip + 12) ^ get32(ip + 16) ^ ip[9];
		if (!part && head >= IPV4_BYTES && head < rest)
			h += ports(ip + head, rest - head, ip[9]) * 0x9e3779b1;
	} else if (bytes >= at + 2 + IPV6_BYTES && get16(frame + at) == TYPE_IPV6) {
		const uint8_t *ip = frame + at + 2;

		for (unsigned i = 8; i < IPV6_BYTES; i += 4)
			h ^= mix(get32(ip + i) + i % 16);
		h ^= ip[6];
		h += ports(ip + IPV6_BYTES, bytes - at - 2 - IPV6_BYTES, ip[6]) * 0x9e3779b1;
	} else {
		return 0;
	}
	h = mix(h);
	return h ? h : 1;
}

void steer_set_pairs(struct steer *s, unsigned pairs)
{
	ensure(pairs >= 1 && pairs < 255);
	atomic_store_explicit(&s->pairs, pairs, memory_order_relaxed);
	for (unsigned i = 0; i < STEER_FLOWS; i++)
		atomic_store_explicit(&s->flow[i], 0, memory_order_relaxed);
}

void steer_init(struct steer *s)
{
	steer_set_pairs(s, 1);
}

void steer_learn(struct steer *s, const uint8_t *frame, size_t bytes, unsigned pair)
{
	uint32_t h = flow_of(frame, bytes);

	if (h && atomic_load_explicit(&s->flow[h % STEER_FLOWS], memory_order_relaxed) != pair + 1)
		atomic_store_explicit(&s->flow[h % STEER_FLOWS], (uint8_t)(pair + 1), memory_order_relaxed);
}

unsigned steer_choose(const struct steer *s, const uint8_t *frame, size_t bytes)
{
	unsigned pairs = atomic_load_explicit(&s->pairs, memory_order_relaxed), known;
	uint32_t h = pairs > 1 ? flow_of(frame, bytes) : 0;

	if (!h)
		return 0;
	known = atomic_load_explicit(&s->flow[h % STEER_FLOWS], memory_order_relaxed);
	return known && known <= pairs ? known - 1 : h / STEER_FLOWS % pairs;
}
