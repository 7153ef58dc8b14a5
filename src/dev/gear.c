/* See gear.h. A text is cut at its commas (two of them are one of the value's own), each piece is a key with its value or a flag. */
#include "dev/gear.h"

#include "base/quantity.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { PIECE_BYTES = GEAR_PATH_BYTES, VALUES_SHOWN = 80 };

static const char disk_usage[] = "write it as --disk FILE[,node=NODE][,readonly][,cache=writeback|none|writethrough|unsafe][,format=raw|qcow2|...]";
static const char net_usage[] = "write it as --net user[,forward=tcp:2222:22] or --net tap,bridge=br0, each with [,node=NODE][,mac=MAC]";

static const char *const format_names[DISK_FORMATS] = {"raw", "nbd", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed"};
static const char *const cache_names[DISK_CACHES] = {"writeback", "none", "writethrough", "unsafe"};
static const char *const kind_names[NIC_KINDS] = {"user", "tap"};

const char *gear_format_name(enum disk_format format)
{
	return (unsigned)format < DISK_FORMATS ? format_names[format] : NULL;
}

const char *gear_cache_name(enum disk_cache cache)
{
	return (unsigned)cache < DISK_CACHES ? cache_names[cache] : NULL;
}

const char *gear_kind_name(enum nic_kind kind)
{
	return (unsigned)kind < NIC_KINDS ? kind_names[kind] : NULL;
}

/* The next piece of *at, its doubled commas made single; *at behind its comma, NULL at the end. -ENAMETOOLONG. */
static int cut(const char **at, char piece[PIECE_BYTES])
{
	const char *s = *at;
	size_t n = 0;

	for (; *s && (*s != ',' || s[1] == ','); s++) {
		if (n == PIECE_BYTES - 1)
			return -ENAMETOOLONG;
		if (*s == ',')
			s++;
		piece[n++] = *s;
	}
	piece[n] = 0;
	*at = *s ? s + 1 : NULL;
	return 0;
}

/* The value of "key=value"; NULL when the piece is not that key's. */
static const char *value_of(const char *piece, const char *key)
{
	size_t n = strlen(key);

	return strncmp(piece, key, n) == 0 && piece[n] == '=' ? piece + n + 1 : NULL;
}

static int copy_word(char *to, size_t room, const char *value)
{
	if (!*value || strlen(value) >= room || *to)
		return -EINVAL;
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == ',' || *c == '/')
			return -EINVAL;
	text_copy(to, room, value);
	return 0;
}

bool gear_is_uri(const char *path)
{
	static const char *const schemes[] = {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "nbd+vsock://", "nbds+vsock://"};

	for (unsigned i = 0; i < ARRAY_LEN(schemes); i++)
		if (strncmp(path, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

static enum disk_format format_of_name(const char *path)
{
	static const struct { const char *ending; enum disk_format format; } known[] = {
		{".qcow2", DISK_QCOW2}, {".vmdk", DISK_VMDK}, {".vdi", DISK_VDI}, {".vhdx", DISK_VHDX},
		{".vhd", DISK_VPC}, {".qed", DISK_QED}};
	size_t n = strlen(path);

	if (gear_is_uri(path))
		return DISK_NBD;
	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		if (n > strlen(known[i].ending) && strcasecmp(path + n - strlen(known[i].ending), known[i].ending) == 0)
			return known[i].format;
	return DISK_RAW;
}

static int read_format(const char *name, enum disk_format *to)
{
	for (enum disk_format i = 0; i < DISK_FORMATS; i++)
		if (strcmp(name, gear_format_name(i)) == 0) {
			*to = i;
			return 0;
		}
	return -EINVAL;
}

static int read_cache(const char *name, enum disk_cache *to)
{
	for (enum disk_cache i = 0; i < DISK_CACHES; i++)
		if (strcmp(name, gear_cache_name(i)) == 0) {
			*to = i;
			return 0;
		}
	return -EINVAL;
}

static int disk_piece(struct gear_disk *d, const char *piece, bool *has_format, bool *has_cache)
{
	const char *v;

	if ((v = value_of(piece, "node")))
		return copy_word(d->node, sizeof d->node, v);
	if ((v = value_of(piece, "cache")) && !*has_cache) {
		*has_cache = true;
		return read_cache(v, &d->cache);
	}
	if ((v = value_of(piece, "format")) && !*has_format) {
		*has_format = true;
		return read_format(v, &d->format);
	}
	if (strcmp(piece, "readonly") != 0 || d->readonly)
		return -EINVAL;
	d->readonly = true;
	return 0;
}

static bool printable(const char *path)
{
	for (; *path; path++)
		if ((unsigned char)*path < ' ' || *path == 0x7f)
			return false;
	return true;
}

int gear_add_disk(struct gear *g, const char *text, struct failure *f)
{
	struct gear_disk d = {0};
	char piece[PIECE_BYTES];
	bool has_format = false, has_cache = false;

	if (cut(&text, d.path))
		return failure_set(f, -ENAMETOOLONG, "use a shorter path", "the name of a disk has at most %d bytes", GEAR_PATH_BYTES - 1);
	if (g->disks >= GEAR_GIVEN_MAX + (strcmp(d.path, GEAR_SEED) == 0))
		return failure_set(f, -E2BIG, "put more on each of them", "a VM has at most %d disks", GEAR_GIVEN_MAX);
	if (!*d.path || !printable(d.path))
		return failure_set(f, -EINVAL, disk_usage, "a disk needs the name of a file, without control characters");
	while (text)
		if (cut(&text, piece) || disk_piece(&d, piece, &has_format, &has_cache))
			return failure_set(f, -EINVAL, disk_usage, "cannot read '%.*s' of the disk %.100s", VALUES_SHOWN, piece, d.path);
	if (!has_format)
		d.format = format_of_name(d.path);
	if ((d.format == DISK_NBD) != gear_is_uri(d.path))
		return failure_set(f, -EINVAL, "a URI (nbd://...) is format=nbd, anything else is a file", "the disk %.120s cannot have format=%s", d.path,
			gear_format_name(d.format));
	if (d.format == DISK_NBD && d.cache == DISK_NONE)
		return failure_set(f, -EINVAL, "leave cache= out", "what the server of %.120s caches is the server's business", d.path);
	g->disk[g->disks++] = d;
	return 0;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static int read_mac(struct gear_nic *n, const char *v)
{
	if (n->has_mac || strlen(v) != 17)
		return -EINVAL;
	for (unsigned i = 0; i < NIC_MAC_BYTES; i++) {
		int high = hex(v[3 * i]), low = hex(v[3 * i + 1]);

		if (high < 0 || low < 0 || (i < NIC_MAC_BYTES - 1 && v[3 * i + 2] != ':'))
			return -EINVAL;
		n->mac[i] = (uint8_t)(high << 4 | low);
	}
	n->has_mac = true;
	return n->mac[0] & 1 ? -EINVAL : 0; /* a group's, nobody's own */
}

static int read_port(const char *s, const char *end, uint16_t *port)
{
	uint64_t v;
	int err = quantity_read_count(s, end, 65535, &v);

	*port = err ? 0 : (uint16_t)v;
	return err || !v ? -EINVAL : 0;
}

static bool ipv4(const char *s)
{
	for (unsigned part = 0; part < 4; part++) {
		const char *end = s + strcspn(s, ".");
		uint64_t v;

		if (quantity_read_count(s, end, 255, &v) || (*end == 0) != (part == 3))
			return false;
		s = end + 1;
	}
	return true;
}

/* tcp:[ADDRESS:]PORT:GUESTPORT */
static int read_forward(struct nic_config *c, const char *v)
{
	struct nic_forward w = {.udp = strncmp(v, "udp:", 4) == 0};
	const char *colon, *last = strrchr(v, ':');

	if (c->forwards == NIC_FORWARDS_MAX || (!w.udp && strncmp(v, "tcp:", 4) != 0))
		return -EINVAL;
	v += 4;
	if (last < v)
		return -EINVAL;
	colon = memrchr(v, ':', (size_t)(last - v));
	if (colon) {
		if ((size_t)(colon - v) >= sizeof w.address)
			return -EINVAL;
		memcpy(w.address, v, (size_t)(colon - v));
		if (!ipv4(w.address))
			return -EINVAL;
		v = colon + 1;
	}
	if (read_port(v, last, &w.host) || read_port(last + 1, NULL, &w.guest))
		return -EINVAL;
	c->forward[c->forwards++] = w;
	return 0;
}

static int net_piece(struct gear_nic *n, const char *piece)
{
	const char *v;

	if ((v = value_of(piece, "node")))
		return copy_word(n->node, sizeof n->node, v);
	if ((v = value_of(piece, "mac")))
		return read_mac(n, v);
	if (n->link.kind == NIC_USER)
		return (v = value_of(piece, "forward")) ? read_forward(&n->link, v) : -EINVAL;
	if ((v = value_of(piece, "bridge")))
		return copy_word(n->link.bridge, sizeof n->link.bridge, v);
	return (v = value_of(piece, "name")) ? copy_word(n->link.ifname, sizeof n->link.ifname, v) : -EINVAL;
}

int gear_add_net(struct gear *g, const char *text, struct failure *f)
{
	struct gear_nic n = {0};
	char piece[PIECE_BYTES] = "";

	if (g->nics == GEAR_NICS_MAX)
		return failure_set(f, -E2BIG, "use fewer", "a VM has at most %d network cards", GEAR_NICS_MAX);
	if (cut(&text, piece) || (strcmp(piece, "user") != 0 && strcmp(piece, "tap") != 0))
		return failure_set(f, -EINVAL, net_usage, "'%.*s' is no kind of network card", VALUES_SHOWN, piece);
	n.link.kind = strcmp(piece, "tap") == 0 ? NIC_TAP : NIC_USER;
	while (text)
		if (cut(&text, piece) || net_piece(&n, piece))
			return failure_set(f, -EINVAL, net_usage, "cannot read '%.*s' of a network card (%s)", VALUES_SHOWN, piece, gear_kind_name(n.link.kind));
	g->nic[g->nics++] = n;
	return 0;
}

int gear_read(struct gear *g, const char *text, size_t n, struct failure *f)
{
	char line[2 * GEAR_PATH_BYTES + 512];
	const char *end = text + n;
	int err = 0;

	*g = (struct gear){0};
	while (text < end && !err) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		size_t bytes = (size_t)((stop ? stop : end) - text);

		if (!stop || bytes >= sizeof line || memchr(text, 0, bytes))
			return failure_set(f, -EINVAL, "run the same version everywhere", "cannot read a VM's devices");
		memcpy(line, text, bytes);
		line[bytes] = 0;
		if (strncmp(line, "disk ", 5) == 0)
			err = gear_add_disk(g, line + 5, f);
		else if (strncmp(line, "net ", 4) == 0)
			err = gear_add_net(g, line + 4, f);
		else
			err = failure_set(f, -EINVAL, "run the same version everywhere", "there is no device '%.40s'", line);
		text = stop + 1;
	}
	return err;
}

static void print_path(FILE *out, const char *path)
{
	for (; *path; path++) {
		if (*path == ',')
			fputc(',', out);
		fputc(*path, out);
	}
}

static void print_disk(FILE *out, const struct gear_disk *d)
{
	fputs("disk ", out);
	print_path(out, d->path);
	if (*d->node)
		fprintf(out, ",node=%s", d->node);
	fprintf(out, "%s,cache=%s,format=%s\n", d->readonly ? ",readonly" : "", gear_cache_name(d->cache), gear_format_name(d->format));
}

static void print_nic(FILE *out, const struct gear_nic *n)
{
	fprintf(out, "net %s", gear_kind_name(n->link.kind));
	if (*n->node)
		fprintf(out, ",node=%s", n->node);
	if (n->has_mac)
		fprintf(out, ",mac=%02x:%02x:%02x:%02x:%02x:%02x", n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5]);
	if (*n->link.bridge)
		fprintf(out, ",bridge=%s", n->link.bridge);
	if (*n->link.ifname)
		fprintf(out, ",name=%s", n->link.ifname);
	for (unsigned i = 0; i < n->link.forwards; i++) {
		const struct nic_forward *w = &n->link.forward[i];

		fprintf(out, ",forward=%s:%s%s%u:%u", w->udp ? "udp" : "tcp", w->address, *w->address ? ":" : "", w->host, w->guest);
	}
	fputc('\n', out);
}

int gear_print(const struct gear *g, char to[GEAR_TEXT_BYTES])
{
	FILE *out = fmemopen(to, GEAR_TEXT_BYTES, "w");
	bool full;
	long n;

	if (!out)
		return -ENOMEM;
	for (unsigned i = 0; i < g->disks; i++)
		print_disk(out, &g->disk[i]);
	for (unsigned i = 0; i < g->nics; i++)
		print_nic(out, &g->nic[i]);
	full = fflush(out) || ferror(out);
	n = ftell(out);
	fclose(out);
	if (full || n < 0 || n >= GEAR_TEXT_BYTES)
		return -E2BIG;
	to[n] = 0;
	return (int)n;
}

void gear_set_macs(struct gear *g, const char *vm)
{
	for (unsigned i = 0; i < g->nics; i++) {
		uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */

		for (const char *c = vm; *c; c++)
			hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
		hash = (hash ^ (i + 1)) * 0x100000001b3;
		if (g->nic[i].has_mac)
			continue;
		g->nic[i].has_mac = true;
		g->nic[i].mac[0] = 0x02; /* locally administered, one card's own */
		for (unsigned k = 1; k < NIC_MAC_BYTES; k++)
			g->nic[i].mac[k] = (uint8_t)(hash >> (8 * k));
	}
}
