/* dev/virtio_rng: a request survives a stop for a moment. (What the registers make of the device: test_virtio.c.) */
#include "dev/virtio_rng.h"
#include "tests/test.h"
#include "tests/unit/absent.h"
#include "tests/unit/queue_rig.h"

TEST(rng_loses_no_request_to_a_stop)
{
	static struct queue_rig r;
	struct virtio_dev dev = virtio_rng_dev();
	int absent;

	queue_rig_open(&r);
	queue_rig_add(&r, &dev);
	queue_rig_up(&r, 0);
	queue_rig_put(&r, 0, NULL, 0, 100);
	CHECK_EQ(queue_rig_get(&r, 0, NULL, 0), 100);
	queue_rig_down(&r, 0);
	queue_rig_put(&r, 0, NULL, 0, 8192);
	absent = absent_page(queue_rig_bytes(&r, 0) + QUEUE_RIG_BYTES);
	if (absent < 0)
		SKIP("no userfaultfd here");
	queue_rig_on(&r, 0);
	CHECK(absent_wanted(absent)); /* it is being filled */
	r.stopped[0] = false;
	CHECK(!plane_stop(r.plane, 0, 0));
	absent_give_up(absent);
	pthread_mutex_lock(&r.lock);
	while (!r.stopped[0])
		pthread_cond_wait(&r.changed, &r.lock);
	pthread_mutex_unlock(&r.lock);
	CHECK_EQ(queue_rig_back(&r, 0), 1);
	queue_rig_on(&r, 0);
	CHECK(queue_rig_get(&r, 0, NULL, 0) > 0);
	queue_rig_halt(&r);
	queue_rig_close(&r);
}
