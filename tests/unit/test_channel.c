/* The daemon's loop and channels: frames over a socket pair, in pieces, spliced, and closed from inside callbacks. */
#include "node/backlog.h"
#include "node/channel.h"
#include "tests/test.h"
#include "wire/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct side {
	struct loop *loop;
	struct channel *channel;
	unsigned frames, closed, stop_after;
	uint64_t sum;
	int err;
};

static void on_frame(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	struct side *s = owner;
	struct control_vm_gone m;

	if (id == CONTROL_vm_gone && !control_get_vm_gone(body, bytes, &m))
		s->sum += m.vm_id;
	s->frames++;
	if (s->frames == s->stop_after) {
		channel_close(c);
		loop_stop(s->loop);
	}
}

static void on_closed(void *owner, struct channel *c, int err)
{
	struct side *s = owner;

	s->closed++;
	s->err = err;
	loop_stop(s->loop);
}

static const struct channel_ops ops = {.frame = on_frame, .closed = on_closed};

static void tick(struct loop_timer *t)
{
	t->armed = false;
}

static bool open_pair(struct loop *l, struct side *a, struct side *b)
{
	int fd[2];

	a->loop = b->loop = l;
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0 && !channel_open(&a->channel, l, fd[0], &ops, a) &&
	       !channel_open(&b->channel, l, fd[1], &ops, b);
}

TEST(frames_arrive_in_order_and_close_ends_them)
{
	struct side a = {0}, b = {0};
	struct loop l;

	CHECK_EQ(loop_open(&l), 0);
	CHECK(open_pair(&l, &a, &b));
	for (uint64_t k = 1; k <= 20000; k++)
		CHANNEL_SEND(a.channel, vm_gone, .vm_id = k);
	CHECK(channel_queued(a.channel) > 0);
	channel_finish(a.channel);
	CHECK_EQ(loop_run(&l), 0);
	CHECK_EQ(b.frames, 20000);
	CHECK_EQ(b.sum, 20000ull * 20001 / 2);
	CHECK(b.closed == 1 && b.err == 0 && a.closed == 0);
	loop_close(&l);
}

TEST(a_frame_may_close_its_own_channel)
{
	struct side a = {0}, b = {.stop_after = 2};
	struct loop l;

	CHECK_EQ(loop_open(&l), 0);
	CHECK(open_pair(&l, &a, &b));
	for (uint64_t k = 1; k <= 5; k++)
		CHANNEL_SEND(a.channel, vm_gone, .vm_id = k);
	CHECK_EQ(loop_run(&l), 0);
	CHECK(b.frames == 2 && b.closed == 0);
	channel_close(a.channel);
	loop_close(&l);
}

TEST(what_is_no_frame_breaks_the_stream)
{
	static const uint8_t junk[64] = {0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4};
	struct side b = {0};
	struct loop l;
	int fd[2];

	CHECK_EQ(loop_open(&l), 0);
	b.loop = &l;
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	CHECK_EQ(channel_open(&b.channel, &l, fd[1], &ops, &b), 0);
	CHECK_EQ(write(fd[0], junk, sizeof junk), (ssize_t)sizeof junk);
	CHECK_EQ(loop_run(&l), 0);
	CHECK(b.closed == 1 && b.err == -EBADMSG && b.frames == 0);
	close(fd[0]);
	loop_close(&l);
}

TEST(spliced_channels_pass_everything_on)
{
	struct side a = {0}, b = {0}, c = {0}, d = {.stop_after = 1000};
	struct loop_timer t = {.fire = tick};
	struct loop l;

	CHECK_EQ(loop_open(&l), 0);
	CHECK(open_pair(&l, &a, &b) && open_pair(&l, &c, &d));
	for (uint64_t k = 1; k <= 500; k++)
		CHANNEL_SEND(a.channel, vm_gone, .vm_id = k);
	channel_splice(b.channel, c.channel);
	for (uint64_t k = 501; k <= 1000; k++)
		CHANNEL_SEND(a.channel, vm_gone, .vm_id = k);
	loop_arm(&l, &t, 1);
	CHECK_EQ(loop_run(&l), 0);
	CHECK(d.frames == 1000 && d.sum == 500500);
	CHECK(b.frames == 0 && c.frames == 0);
	CHECK_EQ(loop_run(&l), 0); /* d's end has travelled back to a */
	CHECK_EQ(a.closed, 1);
	loop_close(&l);
}

TEST(the_backlog_keeps_the_end)
{
	static uint8_t bytes[3 * BACKLOG_BYTES], got[BACKLOG_BYTES];
	struct backlog b = {0};
	uint64_t from = 0;

	for (size_t k = 0; k < sizeof bytes; k++)
		bytes[k] = (uint8_t)(k * 7 >> 3);
	backlog_add(&b, bytes, 100);
	CHECK_EQ(backlog_read(&b, &from, got, sizeof got), 100);
	CHECK(from == 0 && memcmp(got, bytes, 100) == 0);
	backlog_add(&b, bytes + 100, sizeof bytes - 100);
	CHECK_EQ(backlog_read(&b, &from, got, sizeof got), BACKLOG_BYTES);
	CHECK(from == 2 * BACKLOG_BYTES && memcmp(got, bytes + 2 * BACKLOG_BYTES, BACKLOG_BYTES) == 0);
	backlog_seek(&b, 1000000);
	CHECK_EQ(backlog_read(&b, &from, got, sizeof got), 0);
	backlog_add(&b, "x", 1);
	CHECK_EQ(backlog_read(&b, &from, got, sizeof got), 1);
	CHECK(from == 1000000 && got[0] == 'x');
	backlog_fini(&b);
}
