/* Which receive queue of a network card an Ethernet frame goes to: the one whose transmit queue last carried its flow, else one by the flow's hash. Frames of both
 * directions of a flow hash alike (IPv4 and IPv6 addresses, ports of TCP and UDP; one VLAN tag is looked behind); what has no addresses goes to queue 0.
 *
 * Flows that share a place in the table take it from each other; that costs order, nothing else. No I/O. Threads: any; words are relaxed atomics. */
#ifndef DEV_STEER_H
#define DEV_STEER_H

#include "base/types.h"

#include <stdatomic.h>

enum { STEER_FLOWS = 1024 };

struct steer {
	_Atomic unsigned pairs;            /* queue pairs in use, at least 1 */
	_Atomic uint8_t flow[STEER_FLOWS]; /* pair + 1; 0: not seen */
};

void steer_init(struct steer *s);

/* So many pairs are in use from now on; what was learned is forgotten. 1 to 254. */
void steer_set_pairs(struct steer *s, unsigned pairs);

/* The guest has sent this through pair's transmit queue. */
void steer_learn(struct steer *s, const uint8_t *frame, size_t bytes, unsigned pair);

/* Less than the pairs in use. */
unsigned steer_choose(const struct steer *s, const uint8_t *frame, size_t bytes);

#endif
