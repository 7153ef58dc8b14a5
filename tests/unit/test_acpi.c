/* vm: ACPI tables, against golden bytes and against iasl's disassembler. */
#include "dev/addrmap.h"
#include "tests/test.h"
#include "vm/acpi.h"
#include "vm/memmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tables {
	uint8_t image[MEMMAP_ACPI_BYTES];
	size_t bytes;
};

/* Two nodes: vCPU 0 and 256 MiB, vCPU 1 and 3 GiB, of which 256 MiB lie above 4 GiB. */
static int build(struct tables *t)
{
	static const struct topology topology = {.nodes = 2, .vcpus = 2, .vcpu_node = {{0}, {1}}};
	struct ram ram = {0};
	uint64_t bytes[NODES_MAX] = {256u << 20, 3ull << 30};

	return ram_layout(&ram, bytes, 2) ? -1
		: acpi_build(&(struct acpi_config){.topology = &topology, .ram = &ram, .remote_distance = 25}, t->image, sizeof t->image, &t->bytes);
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, at, bytes);
	return v;
}

static uint8_t sum(const uint8_t *at, size_t bytes)
{
	uint8_t s = 0;

	while (bytes--)
		s = (uint8_t)(s + *at++);
	return s;
}

/* A table by signature through RSDP and XSDT, as a kernel finds it; the DSDT through the FADT. */
static const uint8_t *find(const struct tables *t, const char *signature)
{
	const uint8_t *xsdt = t->image + (get(t->image + 24, 8) - MEMMAP_ACPI), *dsdt = NULL;

	for (uint64_t at = 36; at < get(xsdt + 4, 4); at += 8) {
		const uint8_t *table = t->image + (get(xsdt + at, 8) - MEMMAP_ACPI);

		if (memcmp(table, signature, 4) == 0)
			return table;
		if (memcmp(table, "FACP", 4) == 0)
			dsdt = t->image + (get(table + 140, 8) - MEMMAP_ACPI);
	}
	return strcmp(signature, "DSDT") == 0 ? dsdt : NULL;
}

static void hex(const uint8_t *at, size_t bytes, char *to)
{
	for (size_t i = 0; i < bytes; i++)
		sprintf(to + 2 * i, "%02x", at[i]);
}

/* Everything after the 36 bytes of header. */
static bool body_is(const struct tables *t, const char *signature, const char *golden)
{
	const uint8_t *table = find(t, signature);
	char text[1024] = "";

	if (!table)
		return false;
	hex(table + 36, get(table + 4, 4) - 36, text);
	if (strcmp(text, golden) == 0)
		return true;
	printf("%s is  %s\nwant     %s\n", signature, text, golden);
	return false;
}

TEST(every_table_sums_to_zero)
{
	static const char *const names[] = {"FACP", "DSDT", "APIC", "SRAT", "SLIT", "MCFG"};
	struct tables t;

	CHECK_EQ(build(&t), 0);
	CHECK_EQ(sum(t.image, 20), 0);
	CHECK_EQ(sum(t.image, 36), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const uint8_t *table = find(&t, names[i]);

		CHECK(table != NULL);
		CHECK_EQ(sum(table, get(table + 4, 4)), 0);
	}
}

TEST(madt_is_golden)
{
	struct tables t;

	CHECK_EQ(build(&t), 0);
	CHECK(body_is(&t, "APIC", "0000e0fe00000000"
		"09100000" "00000000" "01000000" "00000000"
		"09100000" "01000000" "01000000" "01000000"
		"010c0000" "0000c0fe" "00000000"
		"020a0009" "09000000" "0500"));
}

TEST(srat_is_golden)
{
	struct tables t;

	CHECK_EQ(build(&t), 0);
	CHECK(body_is(&t, "SRAT", "010000000000000000000000"
		"02180000" "00000000" "00000000" "01000000" "0000000000000000"
		"02180000" "01000000" "01000000" "01000000" "0000000000000000"
		"0128" "00000000" "0000" "0000000000000000" "0000001000000000" "00000000" "01000000" "0000000000000000"
		"0128" "01000000" "0000" "0000001000000000" "000000b000000000" "00000000" "01000000" "0000000000000000"
		"0128" "01000000" "0000" "0000000001000000" "0000001000000000" "00000000" "01000000" "0000000000000000"));
}

TEST(slit_and_mcfg_are_golden)
{
	struct tables t;

	CHECK_EQ(build(&t), 0);
	CHECK(body_is(&t, "SLIT", "0200000000000000" "0a19190a"));
	CHECK(body_is(&t, "MCFG", "0000000000000000" "000000e000000000" "0000000000000000"));
}

TEST(fadt_names_the_fixed_hardware)
{
	struct tables t;
	const uint8_t *fadt;

	CHECK_EQ(build(&t), 0);
	fadt = find(&t, "FACP");
	CHECK_EQ(get(fadt + 4, 4), 276);
	CHECK_EQ(get(fadt + 46, 2), ADDRMAP_GSI_SCI);
	CHECK_EQ(get(fadt + 56, 4), ADDRMAP_PORT_PM1);
	CHECK_EQ(get(fadt + 64, 4), ADDRMAP_PORT_PM1_CONTROL);
	CHECK_EQ(get(fadt + 88, 2), 4 | 2 << 8);
	CHECK_EQ(get(fadt + 120, 8), ADDRMAP_PORT_RESET); /* reset register: I/O, after 4 bytes of description at 116 */
	CHECK_EQ(get(fadt + 128, 1), ADDRMAP_RESET_VALUE);
	CHECK_EQ(get(fadt + 132, 8), MEMMAP_ACPI + 0x40); /* FACS */
	CHECK_EQ(get(fadt + 152, 8), ADDRMAP_PORT_PM1);
	CHECK_EQ(get(fadt + 176, 8), ADDRMAP_PORT_PM1_CONTROL);
	CHECK_EQ(get(t.image + 0x40, 4), 0x53434146);
}

TEST(too_little_room_and_absurd_distances_are_refused)
{
	static const struct topology topology = {.nodes = 1, .vcpus = VCPUS_MAX};
	struct ram ram = {.ranges = 1};
	struct acpi_config c = {.topology = &topology, .ram = &ram};
	uint8_t image[2048];
	size_t bytes;

	CHECK_EQ(acpi_build(&c, image, sizeof image, &bytes), -ENOSPC);
	c.remote_distance = 10;
	CHECK_EQ(acpi_build(&c, image, sizeof image, &bytes), -EINVAL);
	c.remote_distance = 255;
	CHECK_EQ(acpi_build(&c, image, sizeof image, &bytes), -EINVAL);
}

TEST(the_largest_machine_fits)
{
	struct topology topology = {.nodes = NODES_MAX, .vcpus = VCPUS_MAX};
	struct ram ram = {0};
	uint64_t bytes[NODES_MAX];
	static uint8_t image[MEMMAP_ACPI_BYTES];
	size_t used;

	for (unsigned i = 0; i < NODES_MAX; i++)
		bytes[i] = 1ull << 30;
	CHECK_EQ(ram_layout(&ram, bytes, NODES_MAX), 0);
	CHECK_EQ(acpi_build(&(struct acpi_config){.topology = &topology, .ram = &ram}, image, sizeof image, &used), 0);
}

/* Write one table to a scratch folder, have iasl take it apart, and look for a word in what it says. */
static int disassemble(const struct tables *t, const char *signature, const char *expect)
{
	char folder[] = "/tmp/tessera-acpi-XXXXXX", command[512];
	const uint8_t *table = find(t, signature);
	FILE *file;
	int status;

	if (!mkdtemp(folder))
		return -1;
	snprintf(command, sizeof command, "%s/t.aml", folder);
	file = fopen(command, "w");
	if (!file || fwrite(table, 1, get(table + 4, 4), file) != get(table + 4, 4) || fclose(file))
		return -1;
	snprintf(command, sizeof command, "cd %s && iasl -d t.aml >log 2>&1 && ! grep -qiE 'invalid|error|warning' log && grep -q '%s' t.dsl", folder, expect);
	status = system(command);
	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command) ? -1 : status;
}

TEST(iasl_takes_every_table_apart)
{
	static const struct { const char *signature, *expect; } cases[] = {
		{"APIC", "Processor x2Apic ID : 00000001"}, {"SRAT", "Address Length : 00000000B0000000"}, {"SLIT", "Locality   1 : 19 0A"},
		{"MCFG", "Base Address : 00000000E0000000"}, {"FACP", "Reset Register"}, {"DSDT", "QEMU0001"},
	};
	struct tables t;

	if (system("iasl -v >/dev/null 2>&1") != 0)
		SKIP("iasl (acpica-tools) is not installed");
	CHECK_EQ(build(&t), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (disassemble(&t, cases[i].signature, cases[i].expect) != 0)
			printf("table %s\n", cases[i].signature);
		CHECK_EQ(disassemble(&t, cases[i].signature, cases[i].expect), 0);
	}
}
