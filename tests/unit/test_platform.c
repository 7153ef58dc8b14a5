/* dev/acpi_pm, dev/rtc, dev/pvpanic: how a guest ends, what time it is. */
#include "dev/acpi_pm.h"
#include "dev/addrmap.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "tests/unit/dev_fixture.h"
#include "tests/test.h"

#include <stdlib.h>

struct ends { unsigned off, reset, panics; };

static void ends_off(void *user)
{
	((struct ends *)user)->off++;
}

static void ends_reset(void *user)
{
	((struct ends *)user)->reset++;
}

static void ends_panic(void *user, unsigned events)
{
	((struct ends *)user)->panics |= events;
}

TEST(acpi_power_button_raises_sci_until_cleared)
{
	struct fixture f;
	struct ends e = {0};
	struct acpi_pm *p;

	fixture_init(&f);
	CHECK_EQ(acpi_pm_open(&p, &(struct acpi_pm_config){.bus = f.bus, .irq_sink = fixture_sink(&f), .off = ends_off, .reset = ends_reset, .user = &e}), 0);
	acpi_pm_press_power_button(p);
	CHECK_EQ(f.level[9], false); /* not enabled yet, but remembered */
	fixture_out(&f, 0x602, 2, 0xffff);
	CHECK_EQ(fixture_in(&f, 0x602, 2), 0x720);
	CHECK_EQ(f.level[9], true);
	CHECK_EQ(fixture_in(&f, 0x600, 2), 0x100);
	fixture_out(&f, 0x600, 2, 0x20);
	CHECK_EQ(f.level[9], true);
	fixture_out(&f, 0x601, 1, 0x01); /* the same bit, by bytes */
	CHECK_EQ(f.level[9], false);
	CHECK_EQ(fixture_in(&f, 0x600, 4), 0x07200000);
	acpi_pm_press_power_button(p);
	fixture_out(&f, 0x600, 4, 0x0100);
	CHECK_EQ(fixture_in(&f, 0x600, 4), 0); /* cleared and disabled at once */
	CHECK_EQ(f.rises[9], 2);
	acpi_pm_close(p);
	CHECK_EQ(fixture_in(&f, 0x600, 1), 0xff);
	fixture_fini(&f);
}

TEST(acpi_sleep_type_five_is_off)
{
	struct fixture f;
	struct ends e = {0};
	struct acpi_pm *p;

	fixture_init(&f);
	CHECK_EQ(acpi_pm_open(&p, &(struct acpi_pm_config){.bus = f.bus, .irq_sink = fixture_sink(&f), .off = ends_off, .reset = ends_reset, .user = &e}), 0);
	CHECK_EQ(fixture_in(&f, 0x604, 2), 1); /* ACPI mode */
	fixture_out(&f, 0x604, 2, 5 << 10 | 1);
	CHECK_EQ(e.off, 0); /* Linux writes the type first, SLP_EN after */
	CHECK_EQ(fixture_in(&f, 0x604, 2), 5 << 10 | 1);
	fixture_out(&f, 0x604, 2, 3 << 10 | 1 << 13);
	CHECK_EQ(e.off, 0);
	fixture_out(&f, 0x604, 2, 5 << 10 | 1 << 13 | 1);
	CHECK_EQ(e.off, 1);
	CHECK_EQ(fixture_in(&f, 0x604, 2), 5 << 10 | 1);
	fixture_out(&f, 0x605, 1, 0x34);
	CHECK_EQ(e.off, 2);
	CHECK_EQ(fixture_in(&f, 0x64, 1), 0);
	fixture_out(&f, 0x64, 1, 0xaa);
	CHECK_EQ(e.reset, 0);
	fixture_out(&f, 0x64, 1, 0xfe);
	CHECK_EQ(e.reset, 1);
	acpi_pm_close(p);
	fixture_fini(&f);
}

static time_t leap_day(void *user)
{
	return 1709251199; /* 2024-02-29 23:59:59 UTC, a Thursday */
}

TEST(rtc_tells_utc_in_bcd)
{
	static const uint8_t expect[][2] = {{0, 0x59}, {2, 0x59}, {4, 0x23}, {6, 5}, {7, 0x29}, {8, 0x02}, {9, 0x24}, {0x32, 0x20}, {10, 0x26}, {11, 2}, {12, 0}, {13, 0x80}};
	struct fixture f;
	struct rtc *r;

	fixture_init(&f);
	CHECK_EQ(rtc_open(&r, &(struct rtc_config){.bus = f.bus, .now = leap_day}), 0);
	for (unsigned i = 0; i < ARRAY_LEN(expect); i++) {
		fixture_out(&f, 0x70, 1, 0x80 | expect[i][0]);
		fixture_out(&f, 0x71, 1, 0x11); /* the time is not the guest's to set */
		CHECK_EQ(fixture_in(&f, 0x71, 1), expect[i][1]);
	}
	fixture_out(&f, 0x70, 1, 0x0f);
	fixture_out(&f, 0x71, 1, 0x0a);
	CHECK_EQ(fixture_in(&f, 0x71, 1), 0x0a);
	rtc_close(r);
	fixture_fini(&f);
}

TEST(pvpanic_passes_known_events)
{
	struct fixture f;
	struct ends e = {0};
	struct pvpanic *p;

	fixture_init(&f);
	CHECK_EQ(pvpanic_open(&p, &(struct pvpanic_config){.bus = f.bus, .panic = ends_panic, .user = &e}), 0);
	CHECK_EQ(fixture_in(&f, 0x505, 1), 3);
	fixture_out(&f, 0x505, 1, 0x80);
	CHECK_EQ(e.panics, 0);
	fixture_out(&f, 0x505, 1, 1);
	CHECK_EQ(e.panics, PVPANIC_PANICKED);
	pvpanic_close(p);
	fixture_fini(&f);
}
