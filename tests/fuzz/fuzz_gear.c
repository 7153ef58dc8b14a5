/* The reader of --disk and --net, and of the same as it travels: no text harms it, and what it takes it writes and reads again as the same. First byte: which
 * reader. */
#include "base/ensure.h"
#include "dev/gear.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static char first[GEAR_TEXT_BYTES], second[GEAR_TEXT_BYTES];
	static struct gear g, again;
	struct failure f = {0};
	char *text;
	int n, err;

	if (!bytes || !(text = malloc(bytes)))
		return 0;
	memcpy(text, data + 1, bytes - 1);
	text[bytes - 1] = 0;
	g = (struct gear){0};
	err = *data % 3 == 0 ? gear_read(&g, text, bytes - 1, &f) : *data % 3 == 1 ? gear_add_disk(&g, text, &f) : gear_add_net(&g, text, &f);
	free(text);
	ensure(err == 0 ? !f.err : f.err == err && *f.what && *f.todo);
	if (err)
		return 0;
	n = gear_print(&g, first);
	if (n == -E2BIG)
		return 0;
	ensure(n >= 0 && n == (int)strlen(first) && gear_read(&again, first, (size_t)n, &f) == 0);
	ensure(gear_print(&again, second) == n && strcmp(first, second) == 0);
	ensure(g.disks == again.disks && g.nics == again.nics);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const char *const seeds[] = {"\1/a.qcow2,node=B,readonly,cache=none", "\1/a,,b,format=raw", "\1nbd+unix:///?socket=/s",
		"\2user,forward=tcp:2222:22,mac=52:54:00:12:34:56",
		"\2tap,bridge=br0,name=t0,node=A", "\2user,forward=udp:127.0.0.1:53:53,forward=tcp:1:2", "\3disk /a,cache=unsafe,format=vdi\nnet user\nnet tap,bridge=b\n"};

	if (n >= ARRAY_LEN(seeds) || strlen(seeds[n]) > room)
		return 0;
	memcpy(to, seeds[n], strlen(seeds[n]));
	return strlen(seeds[n]);
}
