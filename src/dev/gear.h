/* The disks and network cards of a VM, as people write them, as they travel, and as every fragment knows them. One reader and one writer for all three:
 *
 *   --disk FILE[,node=NODE][,readonly][,cache=writeback|none|writethrough|unsafe][,format=FORMAT]
 *   --net user[,forward=tcp|udp:[ADDRESS:]PORT:GUESTPORT]... | tap[,bridge=BRIDGE][,name=INTERFACE]   each with [,node=NODE][,mac=MAC]
 *
 * FILE is a path (a comma in it is written twice), or the URI of an NBD server: nbd://HOST[:PORT][/EXPORT], nbd+unix:///EXPORT?socket=PATH. Its format is what
 * 'format' says; without it an NBD server for a URI, what the name ends in for .qcow2, .vmdk, .vdi, .vhdx, .vhd and .qed, and raw otherwise. It is never guessed
 * from what is in the file, which the guest can write.
 *
 * As it travels: these texts, a line each, behind "disk " or "net ". Pure but for gear_print's buffer; any thread. */
#ifndef DEV_GEAR_H
#define DEV_GEAR_H

#include "dev/disk.h"
#include "dev/nic.h"

enum {
	GEAR_GIVEN_MAX = 8,
	GEAR_DISKS_MAX = GEAR_GIVEN_MAX + 1, /* and the seed */
	GEAR_NICS_MAX = 4,
	GEAR_PATH_BYTES = 1024,
	GEAR_TEXT_BYTES = 16 * 1024, /* of all as text, with a 0 */
};

/* The path of a read-only disk that is no file: its bytes come with the request (a seed for cloud-init). Only the daemon adds it, as the last one. */
#define GEAR_SEED "seed:"

struct gear_disk {
	char path[GEAR_PATH_BYTES];
	char node[NAME_BYTES];     /* that has it; "": the VM's device node */
	bool readonly;
	enum disk_cache cache;
	enum disk_format format;
	/* What its node found: not part of the text; every fragment knows it from fragment_machine_ops.connect on. */
	bool found, discards, writes_back;
	uint64_t bytes;
	uint32_t block_bytes, optimal_bytes;
};

struct gear_nic {
	char node[NAME_BYTES];
	struct nic_config link;
	bool has_mac;
	uint8_t mac[NIC_MAC_BYTES];
};

struct gear {
	unsigned disks, nics;
	struct gear_disk disk[GEAR_DISKS_MAX]; /* in the order they were given: the guest sees them in this order, disks first */
	struct gear_nic nic[GEAR_NICS_MAX];
};

/* Add what one option says. -EINVAL, -E2BIG, -ENAMETOOLONG with the reason; *g is as before then. */
int gear_add_disk(struct gear *g, const char *text, struct failure *f) MUST_CHECK;
int gear_add_net(struct gear *g, const char *text, struct failure *f) MUST_CHECK;

/* All of it, from its lines: n bytes, no 0 needed. -EINVAL for what gear_print does not write. *g is unspecified then. */
int gear_read(struct gear *g, const char *text, size_t n, struct failure *f) MUST_CHECK;

/* The lines, and a 0; returns the bytes without it. -E2BIG: more than GEAR_TEXT_BYTES. gear_read of it gives the same gear (but for what nodes found). */
int gear_print(const struct gear *g, char to[GEAR_TEXT_BYTES]) MUST_CHECK;

/* Give each network card without a MAC one of its own: made of the VM's name and its number, so that the guest finds it again. */
void gear_set_macs(struct gear *g, const char *vm);

/* Is it a URI? Then it is no path on any node. */
bool gear_is_uri(const char *path);

/* As on the command line; NULL for a number that is none. */
const char *gear_format_name(enum disk_format format);
const char *gear_cache_name(enum disk_cache cache);
const char *gear_kind_name(enum nic_kind kind);

#endif
