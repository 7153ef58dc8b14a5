/* The CMOS clock (MC146818A) as far as a guest needs it to know the date at boot: wall time in UTC, BCD, 24 hours; it cannot be set and
 * raises no interrupt. The other CMOS bytes are plain memory.
 * Threads: registers under the bus lock. */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include "dev/bus.h"

#include <time.h>

struct rtc_config {
	struct bus *bus;
	time_t (*now)(void *user); /* seconds since 1970; NULL: the host's clock */
	void *user;
};

struct rtc;

int rtc_open(struct rtc **out, const struct rtc_config *c) MUST_CHECK;
void rtc_close(struct rtc *r);

#endif
