/* A vCPU's state from a stranger: whatever the bytes, it is refused, or it is within its limits and the same bytes come of it again.
 *
 * Input: the bytes without their checksum, which is put right first, so that damage gets further than that. */
#include "tests/fuzz/fuzz.h"

#include "base/ensure.h"
#include "vm/vcpu_image.h"

#include <string.h>

enum { HEAD_BYTES = 16 };

static uint32_t checksum(const uint8_t *at, size_t bytes)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < bytes; i++) {
		crc ^= at[i];
		for (unsigned b = 0; b < 8; b++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void mend(uint8_t *at, size_t bytes)
{
	uint32_t sum = checksum(at + HEAD_BYTES, bytes - HEAD_BYTES), length = (uint32_t)(bytes - HEAD_BYTES);

	memcpy(at + 8, &length, sizeof length);
	memcpy(at + 12, &sum, sizeof sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t in[VCPU_IMAGE_BYTES_MAX], out[VCPU_IMAGE_BYTES_MAX];
	static struct vcpu_image s;
	uint32_t pending[VCPU_VECTOR_WORDS];

	if (vcpu_image_get(&s, data, bytes) == 0)
		ensure(bytes <= sizeof in);
	if (bytes < HEAD_BYTES || bytes > sizeof in)
		return 0;
	memcpy(in, data, bytes);
	mend(in, bytes);
	if (vcpu_image_get(&s, in, bytes) < 0)
		return 0;
	ensure(s.msrs <= VCPU_MSRS_MAX && s.xsave_bytes <= VCPU_XSAVE_MAX && s.xcrs.nr_xcrs <= KVM_MAX_XCRS);
	ensure(vcpu_image_put(&s, out) == bytes && memcmp(in, out, bytes) == 0);
	vcpu_image_pending(&s.lapic, pending);
	vcpu_image_merge(&s, pending);
	vcpu_image_age(&s.lapic, s.tsc);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static struct vcpu_image s;

	if (n > 1)
		return 0;
	ensure(room >= VCPU_IMAGE_BYTES_MAX);
	s = (struct vcpu_image){.xsave_bytes = VCPU_XSAVE_MIN, .msrs = n ? 3 : 0, .xcrs.nr_xcrs = n, .msr = {{1, 2}, {3, 4}, {5, 6}}};
	return vcpu_image_put(&s, to);
}
