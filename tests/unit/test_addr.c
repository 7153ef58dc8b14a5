/* net/addr: what people type becomes an address or a clear refusal. */
#include "net/addr.h"
#include "net/link.h"
#include "tests/test.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

TEST(addresses_print_as_they_were_written)
{
	static const char *const good[] = {"127.0.0.1:7100", "10.1.2.3:0", "[::1]:7100", "[fe80::1]:65535", "0.0.0.0:1"};
	char text[ADDR_TEXT_BYTES];
	struct addr a;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		CHECK_EQ(addr_parse(&a, good[i], NULL), 0);
		addr_print(&a, text);
		CHECK(strcmp(text, good[i]) == 0);
	}
	CHECK_EQ(addr_parse(&a, "*:80", NULL), 0);
	CHECK_EQ(addr_port(&a), 80);
}

TEST(nonsense_is_refused_with_a_reason)
{
	static const char *const bad[] = {"", ":", "x", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1: 1", "127.0.0.1:80x",
					  "::1:80", "[::1]", "[::1]80", "[]:80", "]:80", "256.0.0.1:80", "somehost:80", "127.0.0.1:99999999999999999999"};
	char longest[600];
	struct addr a;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct failure f = {0};

		CHECK_EQ(addr_parse(&a, bad[i], &f), -EINVAL);
		CHECK(f.what[0] && f.todo[0]);
	}
	memset(longest, 'a', sizeof longest);
	strcpy(longest + sizeof longest - 4, ":80");
	CHECK_EQ(addr_parse(&a, longest, NULL), -EINVAL);
}

TEST(loopback_is_recognised)
{
	static const struct { const char *text; bool loopback; } cases[] = {
		{"127.0.0.1:1", true}, {"127.9.9.9:1", true}, {"[::1]:1", true}, {"[::ffff:127.0.0.1]:1", true},
		{"0.0.0.0:1", false}, {"10.0.0.1:1", false}, {"[::]:1", false}, {"[::ffff:10.0.0.1]:1", false}, {"128.0.0.1:1", false},
	};
	struct addr a;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CHECK_EQ(addr_parse(&a, cases[i].text, NULL), 0);
		CHECK_EQ(addr_is_loopback(&a), cases[i].loopback);
	}
}

TEST(listen_and_connect_meet)
{
	struct failure f = {0};
	struct link *l;
	struct addr a, same;
	int listener, fd, second;

	CHECK_EQ(addr_parse(&a, "127.0.0.1:0", NULL), 0);
	CHECK_EQ(addr_listen(&a, &listener, &f), 0);
	CHECK(addr_port(&a) != 0);
	same = a;
	CHECK_EQ(addr_listen(&same, &second, &f), -EADDRINUSE);
	CHECK(strstr(f.what, "127.0.0.1") && f.todo[0]);
	CHECK_EQ(addr_connect(&a, &fd), 0);
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	CHECK_EQ(poll(&pfd, 1, 60000), 1);
	CHECK_EQ(addr_connected(fd), 0);
	CHECK_EQ(link_open(&l, fd, 0, 3000), 0); /* sets every TCP option */
	link_close(l);
	close(listener);
	CHECK_EQ(addr_connect(&a, &fd), 0);
	pfd.fd = fd;
	CHECK_EQ(poll(&pfd, 1, 60000), 1);
	CHECK_EQ(addr_connected(fd), -ECONNREFUSED);
	close(fd);
}
