/* net/link: frames keep their order and bytes whatever the stream is cut into; what is no frame of ours ends the stream. */
#include "net/link.h"
#include "tests/test.h"
#include "wire/peer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A link on one end of a socket pair, the bare other end. */
struct pair {
	struct link *link;
	int far;
};

static bool pair_open(struct pair *p, size_t out_bytes)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd))
		return false;
	p->far = fd[1];
	return link_open(&p->link, fd[0], out_bytes, 0) == 0;
}

static void pair_close(struct pair *p)
{
	link_close(p->link);
	if (p->far >= 0)
		close(p->far);
}

static size_t put_get_s(uint8_t *to, uint64_t gfn)
{
	return peer_put_page_get_s(&(struct peer_page_get_s){.gfn = gfn}, to, 64);
}

TEST(frames_survive_one_byte_at_a_time)
{
	static uint8_t bytes[3 * WIRE_FRAME_MAX], page[PAGE_BYTES];
	struct pair p;
	struct link_frame fr;
	struct peer_page_data data;
	struct peer_page_get_s get;
	size_t n;
	unsigned frames = 0;

	memset(page, 0x77, sizeof page);
	n = put_get_s(bytes, 5);
	n += peer_put_page_data(&(struct peer_page_data){.gfn = 6, .data = {page}}, bytes + n, sizeof bytes - n);
	n += put_get_s(bytes + n, 7);
	CHECK(pair_open(&p, 0));
	for (size_t i = 0; i < n; i++) {
		CHECK_EQ(write(p.far, bytes + i, 1), 1);
		CHECK_EQ(link_fill(p.link), 0);
		CHECK_EQ(link_fill(p.link), -EAGAIN);
		while (link_next(p.link, &fr) == 1) {
			if (frames == 1) {
				CHECK_EQ(peer_get_page_data(fr.body, fr.bytes, &data), 0);
				CHECK(data.gfn == 6 && memcmp(data.data.at, page, PAGE_BYTES) == 0);
			} else {
				CHECK_EQ(fr.id, PEER_page_get_s);
				CHECK_EQ(peer_get_page_get_s(fr.body, fr.bytes, &get), 0);
				CHECK_EQ(get.gfn, 5 + frames);
			}
			frames++;
		}
	}
	CHECK_EQ(frames, 3);
	CHECK_EQ(link_count(p.link)->frames_received, 3);
	CHECK_EQ(link_count(p.link)->bytes_received, n);
	pair_close(&p);
}

TEST(one_flush_is_one_send_of_all_that_is_queued)
{
	static uint8_t page[PAGE_BYTES], got[16 * (PAGE_BYTES + 64)];
	struct peer_page_data m = {.data = {NULL}};
	uint8_t head[64];
	struct pair p;
	size_t head_bytes;

	CHECK(pair_open(&p, 0));
	for (unsigned i = 0; i < 16; i++) {
		memset(page, (int)i, sizeof page);
		m.gfn = i;
		head_bytes = peer_put_page_data(&m, head, sizeof head);
		CHECK_EQ(link_queue(p.link, head, head_bytes, page), 0);
	}
	CHECK_EQ(link_pending(p.link), 16 * (head_bytes + PAGE_BYTES));
	CHECK_EQ(link_flush(p.link), 0);
	CHECK_EQ(link_pending(p.link), 0);
	CHECK_EQ(link_count(p.link)->sends, 1);
	CHECK_EQ(link_count(p.link)->frames_sent, 16);
	CHECK_EQ(recv(p.far, got, sizeof got, MSG_WAITALL | MSG_DONTWAIT), 16 * (head_bytes + PAGE_BYTES));
	for (unsigned i = 0; i < 16; i++) {
		const uint8_t *at = got + i * (head_bytes + PAGE_BYTES) + WIRE_HEADER_BYTES;

		CHECK_EQ(peer_get_page_data(at, 8 + PAGE_BYTES, &m), 0);
		CHECK(m.gfn == i && m.data.at[0] == i && m.data.at[PAGE_BYTES - 1] == i);
	}
	pair_close(&p);
}

TEST(output_is_bounded_and_comes_out_whole_after_a_jam)
{
	static uint8_t page[PAGE_BYTES], sink[65536];
	struct peer_page_data m = {.data = {NULL}};
	uint8_t head[64];
	struct pair p;
	uint64_t queued = 0, got = 0;
	int r = 0;

	CHECK(pair_open(&p, WIRE_FRAME_MAX));
	for (bool jammed = false; !jammed; jammed = r == -ENOBUFS) {
		m.gfn = queued;
		r = link_queue(p.link, head, peer_put_page_data(&m, head, sizeof head), page);
		queued += r == 0;
		if (r == -ENOBUFS && link_flush(p.link) == 0)
			r = 0;
	}
	CHECK_EQ(link_flush(p.link), -EAGAIN);
	while (link_pending(p.link)) {
		ssize_t n = read(p.far, sink, 1 + queued % 7 + sizeof sink / 2);

		CHECK(n > 0);
		got += (uint64_t)n;
		r = link_flush(p.link);
		CHECK(r == 0 || r == -EAGAIN);
	}
	for (ssize_t n; (n = recv(p.far, sink, sizeof sink, MSG_DONTWAIT)) > 0; )
		got += (uint64_t)n;
	CHECK_EQ(got, queued * (WIRE_HEADER_BYTES + 8 + PAGE_BYTES));
	CHECK_EQ(link_count(p.link)->bytes_sent, got);
	pair_close(&p);
}

/* Nothing queued, link_send after link_send until the socket takes but a part; then the far side reads all, in order. */
TEST(what_is_sent_at_once_comes_out_whole_after_a_jam)
{
	static uint8_t frame[WIRE_FRAME_MAX], blob[40000], in[WIRE_FRAME_MAX];
	struct pair p;
	size_t bytes, all = 0, at = 0;
	unsigned sent = 0;
	int err = 0;

	CHECK(pair_open(&p, 0));
	while (!err) {
		memset(blob, (int)sent, sizeof blob);
		bytes = peer_put_net_frames(&(struct peer_net_frames){.queue = (uint16_t)sent, .data = {blob, sizeof blob}}, frame, sizeof frame);
		err = link_send(p.link, frame, bytes);
		all += bytes;
		sent++;
	}
	CHECK_EQ(err, -EAGAIN);
	CHECK(sent > 1 && link_pending(p.link) > 0 && link_pending(p.link) <= bytes);
	CHECK_EQ(link_count(p.link)->frames_sent, sent);
	for (unsigned i = 0; i < sent; i++) {
		struct peer_net_frames m;

		for (at = 0; at < bytes;) {
			ssize_t n = recv(p.far, in + at, bytes - at, MSG_DONTWAIT);

			if (n < 0 && errno == EAGAIN)
				CHECK(link_flush(p.link) == 0 || link_pending(p.link) > 0);
			at += n > 0 ? (size_t)n : 0;
		}
		CHECK_EQ(peer_get_net_frames(in + WIRE_HEADER_BYTES, bytes - WIRE_HEADER_BYTES, &m), 0);
		CHECK_EQ(m.queue, i);
		CHECK(m.data.bytes == sizeof blob && m.data.at[0] == (uint8_t)i && memcmp(m.data.at, m.data.at + 1, sizeof blob - 1) == 0);
	}
	CHECK_EQ(link_pending(p.link), 0);
	CHECK_EQ(link_count(p.link)->bytes_sent, all);
	pair_close(&p);
}

TEST(a_header_that_is_not_ours_ends_the_stream)
{
	static const uint8_t bad[][8] = {
		{0xff, 0xff, 0xff, 0xff, 16, 0, 0, 0}, /* 4 GiB */
		{1, 0, 1, 0, 16, 0, 0, 0},             /* one byte too many */
		{8, 0, 0, 0, 0, 0, 0, 0},              /* id 0 */
		{8, 0, 0, 0, 16, 0, 1, 0},
		{'G', 'E', 'T', ' ', '/', ' ', 'H', 'T'},
	};
	struct link_frame fr;
	uint8_t good[64];
	size_t n = put_get_s(good, 1);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct pair p;

		CHECK(pair_open(&p, 0));
		CHECK_EQ(write(p.far, good, n), n);
		CHECK_EQ(write(p.far, bad[i], 8), 8);
		CHECK_EQ(write(p.far, good, n), n);
		CHECK_EQ(link_fill(p.link), 0);
		CHECK_EQ(link_next(p.link, &fr), 1);
		CHECK_EQ(link_next(p.link, &fr), -EBADMSG);
		CHECK_EQ(link_next(p.link, &fr), -EBADMSG);
		CHECK_EQ(link_fill(p.link), -EBADMSG);
		pair_close(&p);
	}
}

TEST(the_end_of_a_stream_tells_where_it_was_cut)
{
	struct link_frame fr;
	uint8_t good[64];
	size_t n = put_get_s(good, 1);

	for (size_t cut = 0; cut <= n; cut++) {
		struct pair p;

		CHECK(pair_open(&p, 0));
		CHECK_EQ(write(p.far, good, cut), cut);
		close(p.far);
		p.far = -1;
		if (cut)
			CHECK_EQ(link_fill(p.link), 0);
		CHECK_EQ(link_next(p.link, &fr), cut == n);
		CHECK_EQ(link_fill(p.link), cut == 0 || cut == n ? -EPIPE : -ECONNRESET);
		CHECK_EQ(link_queue(p.link, good, n, NULL), 0);
		CHECK_EQ(link_flush(p.link), -EPIPE); /* and no SIGPIPE */
		pair_close(&p);
	}
}

TEST(input_that_nobody_takes_is_bounded)
{
	static uint8_t page[PAGE_BYTES];
	static uint8_t frame[PAGE_BYTES + 64];
	size_t n = peer_put_page_data(&(struct peer_page_data){.gfn = 1, .data = {page}}, frame, sizeof frame), sent = 0, taken = 0;
	struct link_frame fr;
	struct pair p;

	CHECK(pair_open(&p, 0));
	for (unsigned i = 0; i < 2 * LINK_IN_BYTES / n; i++) {
		CHECK_EQ(write(p.far, frame, n), n);
		sent++;
		CHECK_EQ(link_fill(p.link), 0);
		if (link_count(p.link)->bytes_received < sent * n)
			break;
	}
	CHECK(sent * n >= LINK_IN_BYTES && sent * n < LINK_IN_BYTES + 2 * n);
	do
		while (link_next(p.link, &fr) == 1)
			taken += fr.bytes == n - WIRE_HEADER_BYTES && fr.id == PEER_page_data;
	while (link_fill(p.link) == 0);
	CHECK_EQ(taken, sent);
	pair_close(&p);
}

struct flood {
	struct link *link;
	uint64_t frames;
	bool ok;
};

static void flood_wait(struct link *l, short events)
{
	struct pollfd pfd = {.fd = link_fd(l), .events = events};

	poll(&pfd, 1, 60 * 1000);
}

/* Frame i is an empty get or a page, by a hash of i; its gfn is i. */
static bool flood_has_page(uint64_t i)
{
	return (i * 0x9e3779b97f4a7c15u) >> 63;
}

static void *flood_send(void *arg)
{
	struct flood *f = arg;
	uint8_t head[64], page[PAGE_BYTES];

	for (uint64_t i = 0; i < f->frames; ) {
		bool has = flood_has_page(i);
		size_t n = has ? peer_put_page_data(&(struct peer_page_data){.gfn = i}, head, sizeof head) : put_get_s(head, i);

		memset(page, (int)(i & 0xff), sizeof page);
		if (link_queue(f->link, head, n, has ? page : NULL) == 0)
			i++;
		else if (link_flush(f->link) == -EAGAIN)
			flood_wait(f->link, POLLOUT);
	}
	while (link_flush(f->link) == -EAGAIN)
		flood_wait(f->link, POLLOUT);
	return NULL;
}

static bool flood_frame_good(const struct link_frame *fr, uint64_t i)
{
	struct peer_page_data d;
	struct peer_page_get_s g;

	if (!flood_has_page(i))
		return fr->id == PEER_page_get_s && peer_get_page_get_s(fr->body, fr->bytes, &g) == 0 && g.gfn == i;
	return fr->id == PEER_page_data && peer_get_page_data(fr->body, fr->bytes, &d) == 0 && d.gfn == i &&
	       d.data.at[0] == (i & 0xff) && d.data.at[PAGE_BYTES - 1] == (i & 0xff);
}

TEST(a_flood_over_a_socket_keeps_order_and_bytes)
{
	struct flood f = {.frames = 20000};
	struct link *in;
	struct link_frame fr;
	pthread_t thread;
	uint64_t i = 0;
	int fd[2], r;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	CHECK_EQ(link_open(&in, fd[0], 0, 0), 0);
	CHECK_EQ(link_open(&f.link, fd[1], 2 * WIRE_FRAME_MAX, 0), 0);
	CHECK_EQ(pthread_create(&thread, NULL, flood_send, &f), 0);
	while (i < f.frames) {
		r = link_fill(in);
		if (r == -EAGAIN)
			flood_wait(in, POLLIN);
		else
			CHECK_EQ(r, 0);
		while ((r = link_next(in, &fr)) == 1 && flood_frame_good(&fr, i))
			i++;
		CHECK_EQ(r, 0);
	}
	pthread_join(thread, NULL);
	link_close(in);
	link_close(f.link);
}
