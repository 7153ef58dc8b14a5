/* The seed disk: what cloud-init will find on it, read back here and by the tools of those who know FAT (mtools, dosfstools), where they are installed. */
#include "cli/seed.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char key[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE \"me\"@here";

struct folder {
	char path[64], file[4][128];
	unsigned files;
};

static bool make_folder(struct folder *d)
{
	*d = (struct folder){.path = "/tmp/tessera-seed-XXXXXX"};
	return mkdtemp(d->path);
}

static const char *put(struct folder *d, const char *name, const void *at, size_t bytes)
{
	char *path = d->file[d->files++];
	FILE *out;

	strcpy(path, d->path);
	strcat(strcat(path, "/"), name);
	out = fopen(path, "w");
	if (!out || fwrite(at, 1, bytes, out) != bytes || fclose(out))
		abort();
	return path;
}

static void remove_folder(struct folder *d)
{
	while (d->files)
		unlink(d->file[--d->files]);
	rmdir(d->path);
}

/* A file of the image by its long name's first letters, followed through the FAT; -1: not there. */
static int read_back(const uint8_t *image, uint32_t bytes, const char *name, char *to, size_t room)
{
	const uint8_t *fat = image + 512;

	for (const uint8_t *e = image + 1024; e[0]; e += 32) {
		unsigned cluster, size;

		if (e[11] != 0xf || e[1] != name[0] || e[3] != name[1])
			continue;
		cluster = e[32 + 26] | (unsigned)e[32 + 27] << 8;
		size = e[32 + 28] | (unsigned)e[32 + 29] << 8;
		if (size >= room)
			return -1;
		for (unsigned done = 0; done < size; done += 512) {
			unsigned at = (3 + cluster - 2) * 512, n = size - done < 512 ? size - done : 512;
			unsigned next = fat[cluster * 3 / 2] | (unsigned)fat[cluster * 3 / 2 + 1] << 8;

			if (at + n > bytes)
				return -1;
			memcpy(to + done, image + at, n);
			cluster = cluster % 2 ? next >> 4 : next & 0xfff;
		}
		to[size] = 0;
		return cluster == 0xfff ? (int)size : -1;
	}
	return -1;
}

TEST(files_come_back_as_they_went_in)
{
	static uint8_t image[SEED_MAX], big[20000];
	static char back[SEED_MAX];
	struct seed_file files[] = {{"meta-data", "x: 1\n", 5}, {"user-data", big, sizeof big}};
	uint32_t bytes;

	memset(big, 'b', sizeof big);
	CHECK_EQ(seed_make(files, 2, image, &bytes), 0);
	CHECK_EQ(bytes, (3 + 1 + 40) * 512);
	CHECK_EQ(read_back(image, bytes, "me", back, sizeof back), 5);
	CHECK(strcmp(back, "x: 1\n") == 0);
	CHECK_EQ(read_back(image, bytes, "us", back, sizeof back), sizeof big);
	CHECK(memcmp(back, big, sizeof big) == 0);
	files[1].bytes = SEED_MAX;
	CHECK_EQ(seed_make(files, 2, image, &bytes), -E2BIG);
}

static bool have(const char *program)
{
	char command[80];

	snprintf(command, sizeof command, "command -v %s >/dev/null", program);
	return system(command) == 0;
}

TEST(other_programs_read_it)
{
	static uint8_t image[SEED_MAX];
	struct seed_file files[] = {{"meta-data", "x: 1\n", 5}, {"user-data", "#!/bin/sh\n", 10}};
	struct folder d;
	uint32_t bytes;
	char command[512];
	const char *path;
	int clean, same;

	if (!have("fsck.vfat") || !have("mtype") || !have("blkid"))
		SKIP("no fsck.vfat, mtype or blkid; run tools/install-deps");
	CHECK_EQ(seed_make(files, 2, image, &bytes), 0);
	CHECK(make_folder(&d));
	path = put(&d, "seed.img", image, bytes);
	snprintf(command, sizeof command, "fsck.vfat -n %s >/dev/null", path);
	clean = system(command);
	snprintf(command, sizeof command, "[ \"$(mtype -i %s ::meta-data)\" = 'x: 1' ] && [ \"$(mtype -i %s ::user-data)\" = '#!/bin/sh' ] &&"
		" [ \"$(blkid -p -o value -s LABEL %s)/$(blkid -p -o value -s TYPE %s)\" = CIDATA/vfat ]", path, path, path, path);
	same = system(command);
	remove_folder(&d);
	CHECK_EQ(clean, 0);
	CHECK_EQ(same, 0);
}

TEST(options_become_meta_data_and_user_data)
{
	static uint8_t image[SEED_MAX], other[SEED_MAX];
	static char back[SEED_MAX];
	struct options o = {.verb = VERB_RUN};
	struct failure f = {0};
	struct folder d;
	uint32_t bytes;

	CHECK_EQ(seed_from_options(&o, image, &bytes, &f), 0);
	CHECK_EQ(bytes, 0);
	CHECK(make_folder(&d));
	CHECK_EQ(options_set(&o, OPTION_NAME, "web", &f), 0);
	CHECK_EQ(options_set(&o, OPTION_SSH_KEY, put(&d, "a.pub", key, strlen(key)), &f), 0);
	CHECK_EQ(options_set(&o, OPTION_SSH_KEY, put(&d, "b.pub", "# mine\nsk-a b\n", 14), &f), 0);
	CHECK_EQ(seed_from_options(&o, image, &bytes, &f), 0);
	CHECK(read_back(image, bytes, "me", back, sizeof back) > 0);
	CHECK(strstr(back, "\"local-hostname\": \"web\"") && strstr(back, "AAAAIE \\\"me\\\"@here\"") && strstr(back, "\"sk-a b\""));
	CHECK(read_back(image, bytes, "us", back, sizeof back) > 0 && strncmp(back, "#cloud-config\n", 14) == 0);
	CHECK_EQ(seed_from_options(&o, other, &bytes, &f), 0);
	CHECK(memcmp(image, other, bytes) == 0); /* the same words, the same instance */
	CHECK_EQ(options_set(&o, OPTION_USER_DATA, put(&d, "ud", "#!/bin/sh\n", 10), &f), 0);
	CHECK_EQ(options_set(&o, OPTION_HOSTNAME, "other", &f), 0);
	CHECK_EQ(seed_from_options(&o, other, &bytes, &f), 0);
	CHECK(read_back(other, bytes, "us", back, sizeof back) == 10);
	CHECK(read_back(other, bytes, "me", back, sizeof back) > 0 && strstr(back, "\"local-hostname\": \"other\"") && strstr(back, "\"web-"));
	remove_folder(&d);
}

TEST(what_is_no_key_and_no_text_is_refused)
{
	static const char *const bad[] = {"-----BEGIN OPENSSH PRIVATE KEY-----\n", "hello\n", "# nothing\n", "", "ssh-rsa\n"};
	static uint8_t image[SEED_MAX];
	static char large[SEED_MAX + 1];
	struct folder d;
	uint32_t bytes;

	for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
		struct options o = {.verb = VERB_RUN};
		struct failure f = {0};
		int err;

		CHECK(make_folder(&d));
		CHECK_EQ(options_set(&o, OPTION_SSH_KEY, put(&d, "k", bad[k], strlen(bad[k])), &f), 0);
		err = seed_from_options(&o, image, &bytes, &f);
		remove_folder(&d);
		CHECK_EQ(err, -EINVAL);
		CHECK(*f.what && *f.todo);
	}
	memset(large, 'x', sizeof large);
	for (size_t n = SEED_MAX - 1; n <= SEED_MAX; n++) { /* too long with what is around it, and by itself */
		struct options o = {.verb = VERB_RUN};
		struct failure f = {0};
		int err;

		CHECK(make_folder(&d));
		CHECK_EQ(options_set(&o, OPTION_USER_DATA, put(&d, "u", large, n), &f), 0);
		err = seed_from_options(&o, image, &bytes, &f);
		remove_folder(&d);
		CHECK_EQ(err, -E2BIG);
	}
}

TEST(hosts_have_names_of_letters)
{
	static const char *const bad[] = {"-a", "a-", "a b", "a\nb", "", "ä"};
	static uint8_t image[SEED_MAX];
	uint32_t bytes;

	for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
		struct options o = {.verb = VERB_RUN};
		struct failure f = {0};

		CHECK_EQ(options_set(&o, OPTION_HOSTNAME, bad[k], &f), 0);
		CHECK_EQ(seed_from_options(&o, image, &bytes, &f), -EINVAL);
	}
}
