/* See dev_fixture.h. */
#include "tests/unit/dev_fixture.h"

#include "base/ensure.h"

#include <string.h>

static void fixture_msi(void *vm, uint64_t address, uint32_t data)
{
	struct fixture *f = vm;

	pthread_mutex_lock(&f->lock);
	ensure(f->msis < FIXTURE_MSIS);
	f->msi[f->msis].address = address;
	f->msi[f->msis++].data = data;
	pthread_mutex_unlock(&f->lock);
	pthread_cond_broadcast(&f->changed);
}

static void fixture_line(void *vm, unsigned gsi, bool level)
{
	struct fixture *f = vm;

	pthread_mutex_lock(&f->lock);
	ensure(gsi < FIXTURE_PINS);
	f->rises[gsi] += level && !f->level[gsi];
	f->level[gsi] = level;
	pthread_mutex_unlock(&f->lock);
	pthread_cond_broadcast(&f->changed);
}

void fixture_init(struct fixture *f)
{
	memset(f, 0, sizeof *f);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	ensure(bus_open(&f->bus) == 0);
}

void fixture_fini(struct fixture *f)
{
	bus_close(f->bus);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
}

struct irq_sink fixture_sink(struct fixture *f)
{
	return (struct irq_sink){.msi = fixture_msi, .line = fixture_line, .vm = f};
}

uint32_t fixture_in(struct fixture *f, unsigned port, unsigned bytes)
{
	uint32_t value = 0;

	bus_read(f->bus, BUS_PIO, port, &value, bytes);
	return value;
}

void fixture_out(struct fixture *f, unsigned port, unsigned bytes, uint32_t value)
{
	bus_write(f->bus, BUS_PIO, port, &value, bytes);
}

uint64_t fixture_peek(struct fixture *f, uint64_t addr, unsigned bytes)
{
	uint64_t value = 0;

	bus_read(f->bus, BUS_MMIO, addr, &value, bytes);
	return value;
}

void fixture_poke(struct fixture *f, uint64_t addr, unsigned bytes, uint64_t value)
{
	bus_write(f->bus, BUS_MMIO, addr, &value, bytes);
}

void fixture_bytes(void *user, const uint8_t *bytes, size_t n)
{
	struct fixture *f = user;

	pthread_mutex_lock(&f->lock);
	ensure(n <= sizeof f->out - f->outs);
	memcpy(f->out + f->outs, bytes, n);
	f->outs += (unsigned)n;
	pthread_mutex_unlock(&f->lock);
	pthread_cond_broadcast(&f->changed);
}

void fixture_event(void *user)
{
	struct fixture *f = user;

	pthread_mutex_lock(&f->lock);
	f->events++;
	pthread_mutex_unlock(&f->lock);
	pthread_cond_broadcast(&f->changed);
}

static void fixture_wait(struct fixture *f, const unsigned *count, unsigned wanted)
{
	pthread_mutex_lock(&f->lock);
	while (*count < wanted)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

void fixture_wait_outs(struct fixture *f, unsigned outs)
{
	fixture_wait(f, &f->outs, outs);
}

void fixture_wait_events(struct fixture *f, unsigned events)
{
	fixture_wait(f, &f->events, events);
}

void fixture_wait_msis(struct fixture *f, unsigned msis)
{
	fixture_wait(f, &f->msis, msis);
}
