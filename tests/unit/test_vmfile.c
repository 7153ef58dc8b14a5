/* VM files: every option of `tessera run` goes through one and comes back, and what is wrong is said with its line. */
#include "cli/vmfile.h"
#include "tests/test.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool write_file(char path[32], const char *text, size_t bytes)
{
	int fd;

	snprintf(path, 32, "/tmp/tessera-vmfile-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 || write(fd, text, bytes) != (ssize_t)bytes)
		return false;
	close(fd);
	return true;
}

static int read_text(struct vmfile *v, struct options *o, const char *text, struct failure *f)
{
	char path[32];
	int err;

	if (!write_file(path, text, strlen(text)))
		return -EIO;
	err = vmfile_read(v, path, o, f);
	unlink(path);
	return err;
}

static bool is_key(unsigned id)
{
	return options_spec(id)->verbs >> VERB_RUN & 1 && !options_spec(id)->client;
}

TEST(every_option_goes_through_a_file_and_comes_back)
{
	static const char *const values[] = {"plain", "true", "512M", "A:2:2G,B:2", "a: b # c", "it's \"quoted\"", " spaces ", "- x", "/tmp", "two\nlines", "ä"};

	for (size_t n = 0; n < ARRAY_LEN(values); n++) {
		struct options o = {.verb = VERB_RUN}, back = {.verb = VERB_RUN};
		struct failure f = {0};
		struct vmfile v = {0};
		size_t bytes;
		char *text;

		for (unsigned k = 0; k < OPTIONS; k++)
			if (is_key(k)) {
				const char *value = options_spec(k)->path ? "/" : values[n];

				CHECK_EQ(options_set(&o, k, options_spec(k)->value ? value : "", &f), 0);
				if (options_spec(k)->repeats)
					CHECK_EQ(options_set(&o, k, value, &f), 0);
			}
		CHECK_EQ(vmfile_write(&o, &text, &bytes, &f), 0);
		text[bytes] = 0;
		CHECK_EQ(read_text(&v, &back, text, &f), 0);
		free(text);
		for (unsigned k = 0; k < OPTIONS; k++) {
			CHECK(!o.value[k] == !back.value[k]);
			CHECK(!o.value[k] || strcmp(o.value[k], back.value[k]) == 0);
		}
		CHECK_EQ(o.repeats, back.repeats);
		for (unsigned k = 0; k < o.repeats; k++)
			CHECK(o.repeat[k].id == back.repeat[k].id && strcmp(o.repeat[k].value, back.repeat[k].value) == 0);
		vmfile_close(&v);
	}
}

TEST(the_command_line_wins)
{
	struct options o = {.verb = VERB_RUN};
	struct failure f = {0};
	struct vmfile v = {0};

	CHECK_EQ(options_set(&o, OPTION_CPUS, "8", &f), 0);
	CHECK_EQ(options_set(&o, OPTION_SSH_KEY, "mine", &f), 0);
	CHECK_EQ(read_text(&v, &o, "cpus: 2\nmemory: 1G\ndetach: false\nssh-key: [a, b]\n", &f), 0);
	CHECK(strcmp(o.value[OPTION_CPUS], "8") == 0 && strcmp(o.value[OPTION_MEMORY], "1G") == 0 && !o.value[OPTION_DETACH]);
	CHECK(o.repeats == 1 && strcmp(options_each(&o, OPTION_SSH_KEY, 0), "mine") == 0);
	vmfile_close(&v);
}

TEST(paths_begin_at_the_file)
{
	struct options o = {.verb = VERB_RUN};
	struct failure f = {0};
	struct vmfile v = {0};

	CHECK_EQ(read_text(&v, &o, "{kernel: k/vmlinuz, initrd: /i, ssh-key: me.pub, append: k, disk: [\"d,readonly\", /e, \"nbd://h\"]}", &f), 0);
	CHECK(strcmp(o.value[OPTION_KERNEL], "/tmp/k/vmlinuz") == 0 && strcmp(o.value[OPTION_INITRD], "/i") == 0);
	CHECK(strcmp(options_each(&o, OPTION_SSH_KEY, 0), "/tmp/me.pub") == 0 && strcmp(o.value[OPTION_APPEND], "k") == 0);
	CHECK(strcmp(options_each(&o, OPTION_DISK, 0), "/tmp/d,readonly") == 0 && strcmp(options_each(&o, OPTION_DISK, 1), "/e") == 0);
	CHECK(strcmp(options_each(&o, OPTION_DISK, 2), "nbd://h") == 0);
	vmfile_close(&v);
}

TEST(what_is_wrong_is_said_with_its_line)
{
	static const struct { const char *text; unsigned line; } bad[] = {
		{"", 1}, {"# nothing\n", 1}, {"name\n", 1}, {"- name: x\n", 1}, {"name: v\n\ncpu: 2\n", 3}, {"name: v\nname: w\n", 2}, {"name: [a, b]\n", 1},
		{"name: v\ndetach: 5\n", 2}, {"name: {a: b}\n", 1}, {"name:\n", 1}, {"name: v\nmemory: \"\"\n", 2}, {"name: v\njson: true\n", 2}, {"name: v\nfile: x\n", 2},
		{"a: &x 1\nname: *x\n", 1}, {"name: &x 1\nmemory: *x\n", 2}, {"name: v\n---\nname: w\n", 2}, {"name: v\n  cpus: 2\n", 2}, {"name: \"v\\0w\"\n", 1},
		{"? [a]\n: b\n", 1}, {"name: v\nssh-key: [a, [b]]\n", 2}, {"name: v\nssh-key:\n  - a\n  -\n", 4},
	};

	for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
		struct options o = {.verb = VERB_RUN};
		struct failure f = {0};
		struct vmfile v = {0};
		char line[16];

		CHECK_EQ(read_text(&v, &o, bad[k].text, &f), -EINVAL);
		snprintf(line, sizeof line, ":%u: ", bad[k].line);
		if (!strstr(f.what, line))
			printf("%s says %s\n", bad[k].text, f.what);
		CHECK(strstr(f.what, line) && *f.todo);
		vmfile_close(&v);
	}
}

TEST(any_bytes_are_read_or_refused)
{
	unsigned seed = 1;

	for (unsigned n = 0; n < 500; n++) {
		char text[64], path[32];
		struct options o = {.verb = VERB_RUN};
		struct failure f = {0};
		struct vmfile v = {0};
		int err;

		for (size_t k = 0; k < sizeof text; k++) {
			seed = seed * 1103515245 + 12345;
			text[k] = "name: v\n-[]{}&*!|>'\"#\t\xff\x80,?cpus"[(seed >> 16) % 30];
		}
		CHECK(write_file(path, text, sizeof text));
		err = vmfile_read(&v, path, &o, &f);
		unlink(path);
		CHECK(err == 0 || err == -EINVAL);
		vmfile_close(&v);
	}
}
