/* A bus with an interrupt sink that writes down what it is told; shared by the dev room's tests. */
#ifndef TESTS_UNIT_DEV_FIXTURE_H
#define TESTS_UNIT_DEV_FIXTURE_H

#include "dev/bus.h"

#include <pthread.h>

enum { FIXTURE_PINS = 24, FIXTURE_MSIS = 4096 };

struct fixture {
	struct bus *bus;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	bool level[FIXTURE_PINS];
	unsigned rises[FIXTURE_PINS];
	struct { uint64_t address; uint32_t data; } msi[FIXTURE_MSIS];
	unsigned msis;
	uint8_t out[65536]; /* whatever a callback gathers */
	unsigned outs, events;
};

void fixture_init(struct fixture *f);
void fixture_fini(struct fixture *f);
struct irq_sink fixture_sink(struct fixture *f);

uint32_t fixture_in(struct fixture *f, unsigned port, unsigned bytes);
void fixture_out(struct fixture *f, unsigned port, unsigned bytes, uint32_t value);
uint64_t fixture_peek(struct fixture *f, uint64_t addr, unsigned bytes);
void fixture_poke(struct fixture *f, uint64_t addr, unsigned bytes, uint64_t value);

/* Callbacks to hand to devices: append bytes to out; count an event. user is the fixture. */
void fixture_bytes(void *user, const uint8_t *bytes, size_t n);
void fixture_event(void *user);
void fixture_wait_outs(struct fixture *f, unsigned outs);
void fixture_wait_events(struct fixture *f, unsigned events);
void fixture_wait_msis(struct fixture *f, unsigned msis);

#endif
