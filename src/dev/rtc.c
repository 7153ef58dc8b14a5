/* The guest's first idea of the date. */
#include "dev/rtc.h"

#include "dev/addrmap.h"

#include <errno.h>
#include <stdlib.h>

enum { RTC_PORTS = 2, CMOS_BYTES = 128 };
enum { REG_SECONDS = 0, REG_MINUTES = 2, REG_HOURS = 4, REG_WEEKDAY = 6, REG_DAY = 7, REG_MONTH = 8, REG_YEAR = 9, REG_A = 10, REG_B = 11, REG_C = 12, REG_D = 13,
	REG_CENTURY = 0x32 };
enum { A_DIVIDER = 0x26, B_24H = 0x02, D_VALID = 0x80 };

struct rtc {
	struct rtc_config c;
	uint8_t index;
	uint8_t cmos[CMOS_BYTES];
};

static uint8_t bcd(int n)
{
	return (uint8_t)((n / 10 % 10) << 4 | n % 10);
}

static uint8_t rtc_read_reg(struct rtc *r)
{
	time_t now = r->c.now ? r->c.now(r->c.user) : time(NULL);
	struct tm t;

	gmtime_r(&now, &t);
	switch (r->index) {
	case REG_SECONDS: return bcd(t.tm_sec);
	case REG_MINUTES: return bcd(t.tm_min);
	case REG_HOURS: return bcd(t.tm_hour);
	case REG_WEEKDAY: return bcd(t.tm_wday + 1);
	case REG_DAY: return bcd(t.tm_mday);
	case REG_MONTH: return bcd(t.tm_mon + 1);
	case REG_YEAR: return bcd(t.tm_year % 100);
	case REG_CENTURY: return bcd((t.tm_year + 1900) / 100);
	case REG_A: return A_DIVIDER;
	case REG_B: return B_24H;
	case REG_C: return 0;
	case REG_D: return D_VALID;
	default: return r->cmos[r->index];
	}
}

static void rtc_bus_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct rtc *r = dev;

	bus_put(data, bytes, offset ? rtc_read_reg(r) : r->index);
}

static void rtc_bus_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct rtc *r = dev;
	uint8_t value = (uint8_t)bus_get(data, bytes);

	if (offset)
		r->cmos[r->index] = value;
	else
		r->index = value % CMOS_BYTES; /* bit 7 masks NMIs on a PC; not here */
}

static const struct bus_ops rtc_ops = {.read = rtc_bus_read, .write = rtc_bus_write};

int rtc_open(struct rtc **out, const struct rtc_config *c)
{
	struct rtc *r = calloc(1, sizeof *r);
	int err;

	if (!r)
		return -ENOMEM;
	r->c = *c;
	bus_lock(c->bus);
	err = bus_add(c->bus, BUS_PIO, ADDRMAP_PORT_RTC, RTC_PORTS, &rtc_ops, r, "rtc");
	bus_unlock(c->bus);
	if (err)
		free(r);
	else
		*out = r;
	return err;
}

void rtc_close(struct rtc *r)
{
	if (!r)
		return;
	bus_lock(r->c.bus);
	bus_remove(r->c.bus, BUS_PIO, ADDRMAP_PORT_RTC);
	bus_unlock(r->c.bus);
	free(r);
}
