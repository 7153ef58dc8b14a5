/* Builds the variable tables field by field. See acpi.h. */
#include "vm/acpi.h"

#include <errno.h>
#include <string.h>

#include "dev/addrmap.h"
#include "vm/memmap.h"
#include "dsdt.hex" /* made from dsdt.asl by iasl */

enum {
	HEADER_BYTES = 36,
	HEADER_CHECKSUM = 9,
	RSDP_BYTES = 36,
	FACS_BYTES = 64,
	TABLES_MAX = 8,
	GAS_IO = 1,
};

/* The image under construction; 'bad' latches the first overrun. */
struct image {
	uint8_t *at;
	size_t room, used;
	bool bad;
};

static void put(struct image *im, const void *from, size_t bytes)
{
	if (im->bad || bytes > im->room - im->used) {
		im->bad = true;
		return;
	}
	memcpy(im->at + im->used, from, bytes);
	im->used += bytes;
}

static void put8(struct image *im, unsigned v) { put(im, &(uint8_t){(uint8_t)v}, 1); }
static void put16(struct image *im, unsigned v) { put(im, &(uint16_t){(uint16_t)v}, 2); }
static void put32(struct image *im, uint32_t v) { put(im, &v, 4); }
static void put64(struct image *im, uint64_t v) { put(im, &v, 8); }

static void put_zeros(struct image *im, size_t count)
{
	for (size_t i = 0; i < count; i++)
		put8(im, 0);
}

static void align(struct image *im, size_t to)
{
	while (!im->bad && im->used % to)
		put8(im, 0);
}

static uint8_t checksum(const uint8_t *at, size_t bytes)
{
	uint8_t sum = 0;

	while (bytes--)
		sum = (uint8_t)(sum + *at++);
	return (uint8_t)-sum;
}

/* Where a table begins, as an offset in the image. */
static size_t table_begin(struct image *im, const char *signature, unsigned revision)
{
	size_t start;

	align(im, 16);
	start = im->used;
	put(im, signature, 4);
	put32(im, 0); /* length, see table_end */
	put8(im, revision);
	put8(im, 0); /* checksum, see table_end */
	put(im, "TESSRATESSERA ", 14);
	put32(im, 1);
	put(im, "TESS", 4);
	put32(im, 1);
	return start;
}

static uint64_t table_end(struct image *im, size_t start)
{
	uint32_t bytes = (uint32_t)(im->used - start);

	if (im->bad)
		return 0;
	memcpy(im->at + start + 4, &bytes, sizeof bytes);
	im->at[start + HEADER_CHECKSUM] = checksum(im->at + start, bytes);
	return MEMMAP_ACPI + start;
}

/* Generic address structure (ACPI 6.5, 5.2.3.2) of an I/O port. */
static void put_port(struct image *im, unsigned port, unsigned bits, unsigned access)
{
	put8(im, port ? GAS_IO : 0);
	put8(im, bits);
	put8(im, 0);
	put8(im, access);
	put64(im, port);
}

static uint64_t put_facs(struct image *im)
{
	size_t start;

	align(im, 64);
	start = im->used;
	put(im, "FACS", 4);
	put32(im, FACS_BYTES);
	put_zeros(im, 24);
	put8(im, 2); /* version */
	put_zeros(im, FACS_BYTES - 33);
	return MEMMAP_ACPI + start;
}

static uint64_t put_dsdt(struct image *im)
{
	size_t start;

	align(im, 16);
	start = im->used;
	put(im, dsdt_aml_code, sizeof dsdt_aml_code);
	return MEMMAP_ACPI + start;
}

/* The 32-bit part, offsets 36 .. 115 (ACPI 6.5, table 5.9). */
static void put_fadt_legacy(struct image *im, uint64_t facs, uint64_t dsdt)
{
	enum {
		WBINVD = 1 << 0, PROC_C1 = 1 << 2, NO_SLEEP_BUTTON = 1 << 5, NO_RTC_WAKE = 1 << 6, RESET_SUPPORTED = 1 << 10, APIC_PHYSICAL = 1 << 19,
		ISA_DEVICES = 1 << 0, NO_VGA = 1 << 2,
	};

	put32(im, (uint32_t)facs);
	put32(im, (uint32_t)dsdt);
	put8(im, 0);
	put8(im, 4); /* profile: enterprise server */
	put16(im, ADDRMAP_GSI_SCI);
	put_zeros(im, 8); /* no SMI: always in ACPI mode */
	put32(im, ADDRMAP_PORT_PM1);
	put32(im, 0);
	put32(im, ADDRMAP_PORT_PM1_CONTROL);
	put_zeros(im, 20); /* no PM1b, PM2, PM timer, GPE */
	put8(im, 4);       /* PM1 event bytes */
	put8(im, 2);       /* PM1 control bytes */
	put_zeros(im, 6);
	put16(im, 0xffff); /* no C2, no C3 */
	put16(im, 0xffff);
	put_zeros(im, 9); /* flush sizes, duty cycle, RTC alarms, century */
	put16(im, ISA_DEVICES | NO_VGA);
	put8(im, 0);
	put32(im, WBINVD | PROC_C1 | NO_SLEEP_BUTTON | NO_RTC_WAKE | RESET_SUPPORTED | APIC_PHYSICAL);
}

static uint64_t put_fadt(struct image *im, uint64_t facs, uint64_t dsdt)
{
	size_t start = table_begin(im, "FACP", 6);

	put_fadt_legacy(im, facs, dsdt);
	put_port(im, ADDRMAP_PORT_RESET, 8, 1);
	put8(im, ADDRMAP_RESET_VALUE);
	put16(im, 0);
	put8(im, 5); /* minor version */
	put64(im, facs);
	put64(im, dsdt);
	put_port(im, ADDRMAP_PORT_PM1, 32, 2);
	put_port(im, 0, 0, 0);
	put_port(im, ADDRMAP_PORT_PM1_CONTROL, 16, 2);
	for (unsigned i = 0; i < 7; i++) /* PM1b control, PM2, PM timer, GPE0, GPE1, sleep control, sleep status */
		put_port(im, 0, 0, 0);
	put64(im, 0); /* hypervisor vendor */
	return table_end(im, start);
}

static uint64_t put_madt(struct image *im, const struct topology *t)
{
	enum { OVERRIDE_EDGE_HIGH = 0x5 };
	size_t start = table_begin(im, "APIC", 5);

	put32(im, MEMMAP_LAPIC);
	put32(im, 0); /* no 8259 pair */
	for (unsigned i = 0; i < t->vcpus; i++) {
		put16(im, 9 | 16 << 8); /* processor local x2APIC */
		put16(im, 0);
		put32(im, i);
		put32(im, 1); /* enabled */
		put32(im, i);
	}
	put16(im, 1 | 12 << 8); /* I/O APIC */
	put16(im, 0);
	put32(im, ADDRMAP_IOAPIC);
	put32(im, 0);
	put16(im, 2 | 10 << 8); /* interrupt source override: the SCI by edge */
	put8(im, 0);
	put8(im, ADDRMAP_GSI_SCI);
	put32(im, ADDRMAP_GSI_SCI);
	put16(im, OVERRIDE_EDGE_HIGH);
	return table_end(im, start);
}

static uint64_t put_srat(struct image *im, const struct topology *t, const struct ram *ram)
{
	size_t start = table_begin(im, "SRAT", 3);

	put32(im, 1);
	put64(im, 0);
	for (unsigned i = 0; i < t->vcpus; i++) {
		put16(im, 2 | 24 << 8); /* processor local x2APIC affinity */
		put16(im, 0);
		put32(im, t->vcpu_node[i].v);
		put32(im, i);
		put32(im, 1);
		put64(im, 0);
	}
	for (unsigned i = 0; i < ram->ranges; i++) {
		put16(im, 1 | 40 << 8); /* memory affinity */
		put32(im, ram->range[i].home.v);
		put16(im, 0);
		put64(im, ram->range[i].gpa.v);
		put64(im, ram->range[i].bytes);
		put32(im, 0);
		put32(im, 1);
		put64(im, 0);
	}
	return table_end(im, start);
}

static uint64_t put_slit(struct image *im, unsigned nodes, unsigned remote)
{
	size_t start = table_begin(im, "SLIT", 1);

	put64(im, nodes);
	for (unsigned i = 0; i < nodes * nodes; i++)
		put8(im, i / nodes == i % nodes ? ACPI_DISTANCE_LOCAL : remote);
	return table_end(im, start);
}

static uint64_t put_mcfg(struct image *im)
{
	size_t start = table_begin(im, "MCFG", 1);

	put64(im, 0);
	put64(im, ADDRMAP_ECAM);
	put32(im, 0); /* segment 0, bus 0 to 0 */
	put32(im, 0);
	return table_end(im, start);
}

static uint64_t put_xsdt(struct image *im, const uint64_t *table, unsigned tables)
{
	size_t start = table_begin(im, "XSDT", 1);

	put(im, table, tables * sizeof table[0]);
	return table_end(im, start);
}

static void fill_rsdp(struct image *im, uint64_t xsdt)
{
	uint8_t *r = im->at;

	memcpy(r, "RSD PTR \0TESSRA\2", 16);
	memcpy(r + 20, &(uint32_t){RSDP_BYTES}, 4);
	memcpy(r + 24, &xsdt, sizeof xsdt);
	r[8] = checksum(r, 20);
	r[32] = checksum(r, RSDP_BYTES);
}

int acpi_build(const struct acpi_config *c, uint8_t *to, size_t room, size_t *bytes)
{
	struct image im = {.at = to, .room = room};
	unsigned remote = c->remote_distance ? c->remote_distance : ACPI_DISTANCE_REMOTE, tables = 0;
	uint64_t table[TABLES_MAX], facs, dsdt, xsdt;

	if (!topology_valid(c->topology) || remote <= ACPI_DISTANCE_LOCAL || remote > 254)
		return -EINVAL;
	put_zeros(&im, RSDP_BYTES);
	facs = put_facs(&im);
	dsdt = put_dsdt(&im);
	table[tables++] = put_fadt(&im, facs, dsdt);
	table[tables++] = put_madt(&im, c->topology);
	table[tables++] = put_srat(&im, c->topology, c->ram);
	table[tables++] = put_slit(&im, c->topology->nodes, remote);
	table[tables++] = put_mcfg(&im);
	xsdt = put_xsdt(&im, table, tables);
	if (im.bad)
		return -ENOSPC;
	fill_rsdp(&im, xsdt);
	*bytes = im.used;
	return 0;
}
