/* See seed.h. The file system: Microsoft's FAT specification, 1.03 (FAT12, clusters of one sector, one FAT); files: cloud-init's NoCloud. */
#include "cli/seed.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	SECTOR = 512, ENTRY = 32, ROOT_ENTRIES = SECTOR / ENTRY, FAT_SECTORS = 1, RESERVED = 1, DATA_SECTOR = RESERVED + FAT_SECTORS + 1, LONG_LETTERS = 13,
	ATTR_READONLY = 1, ATTR_LABEL = 8, ATTR_LONG = 0xf, FAT12_END = 0xfff, SHORT_BYTES = 11, KEYS_BYTES = 16 << 10,
};

static void put16(uint8_t *at, unsigned v)
{
	at[0] = (uint8_t)v;
	at[1] = (uint8_t)(v >> 8);
}

static void put_fat(uint8_t *fat, unsigned cluster, unsigned v)
{
	uint8_t *at = fat + cluster * 3 / 2;

	if (cluster % 2) {
		at[0] = (uint8_t)((at[0] & 0x0f) | v << 4);
		at[1] = (uint8_t)(v >> 4);
	} else {
		at[0] = (uint8_t)v;
		at[1] = (uint8_t)((at[1] & 0xf0) | v >> 8);
	}
}

static void put_boot_sector(uint8_t *s, unsigned sectors)
{
	memcpy(s, "\xeb\x3c\x90TESSERA ", 11);
	put16(s + 11, SECTOR);
	s[13] = 1;            /* sectors of a cluster */
	put16(s + 14, RESERVED);
	s[16] = 1;            /* FATs */
	put16(s + 17, ROOT_ENTRIES);
	put16(s + 19, sectors);
	s[21] = 0xf8;         /* a fixed disk */
	put16(s + 22, FAT_SECTORS);
	put16(s + 24, 1);     /* sectors of a track, and heads: nobody's */
	put16(s + 26, 1);
	s[36] = 0x80;
	s[38] = 0x29;         /* what follows is there */
	memcpy(s + 39, "TSRA" "CIDATA     " "FAT12   ", 23);
	s[510] = 0x55;
	s[511] = 0xaa;
}

/* "FILE0001": nobody sees it; the long name is the name. */
static void put_short_name(uint8_t *e, unsigned n)
{
	char text[SHORT_BYTES + 1];

	snprintf(text, sizeof text, "FILE%04u   ", n % 10000);
	memcpy(e, text, SHORT_BYTES);
}

static uint8_t short_sum(const uint8_t *name)
{
	uint8_t sum = 0;

	for (unsigned k = 0; k < SHORT_BYTES; k++)
		sum = (uint8_t)((sum & 1 ? 0x80 : 0) + (sum >> 1) + name[k]);
	return sum;
}

static void put_long_name(uint8_t *e, const char *name, const uint8_t *short_name)
{
	static const uint8_t place[LONG_LETTERS] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
	size_t n = strlen(name);

	e[0] = 0x41; /* the first, and the last */
	e[11] = ATTR_LONG;
	e[13] = short_sum(short_name);
	for (size_t k = 0; k < LONG_LETTERS; k++)
		put16(e + place[k], k < n ? (uint8_t)name[k] : k == n ? 0 : 0xffff);
}

int seed_make(const struct seed_file *file, unsigned files, uint8_t to[SEED_MAX], uint32_t *bytes)
{
	uint8_t *fat = to + RESERVED * SECTOR, *entry = fat + FAT_SECTORS * SECTOR;
	unsigned cluster = 2, sectors = DATA_SECTOR;

	if (files > SEED_FILES_MAX)
		return -E2BIG;
	for (unsigned k = 0; k < files; k++) {
		if (file[k].bytes > SEED_MAX || !*file[k].name || strlen(file[k].name) > LONG_LETTERS)
			return -E2BIG;
		sectors += (file[k].bytes + SECTOR - 1) / SECTOR;
	}
	sectors += sectors == DATA_SECTOR;
	if (sectors > SEED_MAX / SECTOR)
		return -E2BIG;
	memset(to, 0, sectors * SECTOR);
	put_boot_sector(to, sectors);
	put_fat(fat, 0, 0xff8);
	put_fat(fat, 1, FAT12_END);
	memcpy(entry, "CIDATA     ", SHORT_BYTES);
	entry[11] = ATTR_LABEL;
	entry += ENTRY;
	for (unsigned k = 0; k < files; k++, entry += 2 * ENTRY) {
		uint8_t *e = entry + ENTRY;
		unsigned count = (file[k].bytes + SECTOR - 1) / SECTOR;

		put_short_name(e, k);
		put_long_name(entry, file[k].name, e);
		e[11] = ATTR_READONLY;
		put16(e + 24, 0x21); /* 1980-01-01, the first day there is */
		put16(e + 26, count ? cluster : 0);
		put16(e + 28, file[k].bytes & 0xffff);
		put16(e + 30, file[k].bytes >> 16);
		if (count)
			memcpy(to + (DATA_SECTOR + cluster - 2) * SECTOR, file[k].at, file[k].bytes);
		for (unsigned n = 0; n < count; n++, cluster++)
			put_fat(fat, cluster, n + 1 < count ? cluster + 1 : FAT12_END);
	}
	*bytes = sectors * SECTOR;
	return 0;
}

/* A file of a person's, whole, as text. */
static int read_text(const char *what, const char *path, char *to, size_t room, struct failure *f)
{
	FILE *in = fopen(path, "re");
	size_t n;

	if (!in)
		return failure_set(f, -errno, "give the path of a file you can read", "cannot read the %s %.120s: %s", what, path, strerror(errno));
	n = fread(to, 1, room, in);
	if (ferror(in)) {
		fclose(in);
		return failure_set(f, -EIO, "give the path of a file", "cannot read the %s %.120s", what, path);
	}
	fclose(in);
	if (n == room)
		return failure_set(f, -E2BIG, "make it shorter", "the %s %.120s has more than %zu bytes", what, path, room - 1);
	to[n] = 0;
	if (strlen(to) != n || n == 0)
		return failure_set(f, -EINVAL, "give a text file", "the %s %.120s is %s", what, path, n ? "no text" : "empty");
	return 0;
}

/* Each line of a public key file. */
static int add_keys(json_t *keys, const char *path, struct failure *f)
{
	static const char *const kinds[] = {"ssh-", "ecdsa-", "sk-"};
	char *text = malloc(KEYS_BYTES), *save = NULL;
	size_t before = json_array_size(keys);
	int err = text ? read_text("SSH key", path, text, KEYS_BYTES, f) : -ENOMEM;

	for (char *line = err ? NULL : strtok_r(text, "\r\n", &save); line && !err; line = strtok_r(NULL, "\r\n", &save)) {
		bool known = false;

		for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
			known |= strncmp(line, kinds[k], strlen(kinds[k])) == 0 && strchr(line, ' ');
		if (*line == '#')
			continue;
		if (strstr(line, "PRIVATE KEY"))
			err = failure_set(f, -EINVAL, "give the file that ends in .pub", "%.120s is a private key", path);
		else if (!known || json_array_append_new(keys, json_string(line)))
			err = failure_set(f, -EINVAL, "give a file of public keys, as ~/.ssh/id_ed25519.pub", "%.120s holds a line that is no public SSH key", path);
	}
	if (!err && json_array_size(keys) == before)
		err = failure_set(f, -EINVAL, "give a file of public keys, as ~/.ssh/id_ed25519.pub", "%.120s holds no public SSH key", path);
	free(text);
	return err;
}

/* A guest that was set up by other words sets itself up anew. FNV-1a. */
static uint64_t mix(uint64_t hash, const char *text)
{
	do
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
	while (*text++);
	return hash;
}

/* meta-data; JSON is YAML. */
static char *make_meta(const char *vm, const char *hostname, json_t *keys, const char *user_data)
{
	char *packed = json_dumps(keys, JSON_COMPACT), id[NAME_BYTES + 32], *text = NULL;
	json_t *meta;

	if (!packed)
		return NULL;
	snprintf(id, sizeof id, "%.63s-%016" PRIx64, vm, mix(mix(mix(mix(0xcbf29ce484222325, vm), hostname), packed), user_data));
	meta = json_pack("{s:s,s:s,s:O}", "instance-id", id, "local-hostname", hostname, "public-keys", keys);
	text = meta ? json_dumps(meta, JSON_INDENT(1) | JSON_PRESERVE_ORDER) : NULL;
	json_decref(meta);
	free(packed);
	return text;
}

static bool good_host(const char *name)
{
	size_t n = strlen(name);

	for (size_t k = 0; k < n; k++)
		if (!isalnum((unsigned char)name[k]) && ((name[k] != '-' && name[k] != '.') || k == 0 || k + 1 == n))
			return false;
	return n > 0 && n < NAME_BYTES;
}

static int make_files(const struct options *o, json_t *keys, char *user_data, uint8_t *to, uint32_t *bytes, struct failure *f)
{
	const char *vm = o->value[OPTION_NAME] ? o->value[OPTION_NAME] : "", *hostname = o->value[OPTION_HOSTNAME] ? o->value[OPTION_HOSTNAME] : vm;
	struct seed_file file[2];
	char *meta;
	int err = 0;

	if (o->value[OPTION_HOSTNAME] && !good_host(hostname))
		return failure_set(f, -EINVAL, "use up to 63 letters, digits, '.' and '-'", "'%.80s' is no name for a host", hostname);
	for (unsigned k = 0; !err && options_each(o, OPTION_SSH_KEY, k); k++)
		err = add_keys(keys, options_each(o, OPTION_SSH_KEY, k), f);
	snprintf(user_data, SEED_MAX, "#cloud-config\n{}\n");
	if (!err && o->value[OPTION_USER_DATA])
		err = read_text("user data", o->value[OPTION_USER_DATA], user_data, SEED_MAX, f);
	if (err)
		return err;
	meta = make_meta(vm, good_host(hostname) ? hostname : "tessera", keys, user_data);
	if (!meta)
		return failure_set(f, -EINVAL, "write it in UTF-8", "an SSH key or a name is no text");
	file[0] = (struct seed_file){"meta-data", meta, (uint32_t)strlen(meta)};
	file[1] = (struct seed_file){"user-data", user_data, (uint32_t)strlen(user_data)};
	err = seed_make(file, ARRAY_LEN(file), to, bytes);
	free(meta);
	return err ? failure_set(f, err, "give fewer keys, or let the user data fetch the rest", "the seed has more than %u KiB", SEED_MAX / 1024u) : 0;
}

int seed_from_options(const struct options *o, uint8_t to[SEED_MAX], uint32_t *bytes, struct failure *f)
{
	char *user_data;
	json_t *keys;
	int err;

	*bytes = 0;
	if (!o->value[OPTION_SSH_KEY] && !o->value[OPTION_USER_DATA] && !o->value[OPTION_HOSTNAME])
		return 0;
	user_data = malloc(SEED_MAX);
	keys = json_array();
	err = user_data && keys ? make_files(o, keys, user_data, to, bytes, f) : failure_set(f, -ENOMEM, "free some memory", "out of memory");
	json_decref(keys);
	free(user_data);
	return err;
}
