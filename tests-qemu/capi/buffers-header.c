/* Compiled as C99, C17 and C++: the header alone, then each of its names, refused and on threads without a slot. */
#define RSEQ_RT_SLOT_SHIFT 8
#include "rseq_rt_buffers.h"

#include <string.h>

static uintptr_t storage[3][32] __attribute__((__aligned__(128)));
static uintptr_t log_storage[3][32] __attribute__((__aligned__(128)));
static rseq_rt_area area = RSEQ_RT_AREA_INIT;
static struct rseq_rt_fence fence;
static struct rseq_rt_buffer buffer;
static struct rseq_rt_bytes bytes;
static size_t given;

static void each(void *pointer, void *argument)
{
	(void)argument;
	given += pointer != NULL;
}

static void records(const void *pointer, size_t size, void *argument)
{
	(void)argument;
	given += size == 4 && memcmp(pointer, "abcd", 4) == 0;
}

int main(void)
{
	void *popped = NULL;
	int wrong = 0;
	size_t i;

	wrong |= rseq_rt_init_flags(NULL, RSEQ_RT_DISABLED) | rseq_rt_on_thread_create(&area);
	wrong |= rseq_rt_fence_register(&fence) < 0;

	wrong |= rseq_rt_buffer_init(NULL, storage, 256, 2) != -14;
#ifndef RSEQ_RT_DEBUG
	/* An assertion, in a build for debugging. */
	wrong |= rseq_rt_buffer_init(&buffer, NULL, 256, 2) != -14;
	wrong |= rseq_rt_buffer_init(&buffer, &storage[0][0] + 1, 128, 2) != -22;
	wrong |= rseq_rt_buffer_init(&buffer, storage, 256, 0) != -22 || rseq_rt_buffer_init(&buffer, storage, 256, ~0ul) != -75;
	wrong |= rseq_rt_bytes_init(&bytes, log_storage, 128, 2) != -22;
#endif
	wrong |= rseq_rt_buffer_init(&buffer, storage, 256, 2);
	wrong |= rseq_rt_buffer_push(NULL, &area, &area) != -14 || rseq_rt_buffer_push(&buffer, &area, NULL) != -14;
	wrong |= rseq_rt_buffer_pop(NULL, &area, &popped) != -14 || rseq_rt_buffer_pop(&buffer, &area, NULL) != -14;
	wrong |= rseq_rt_buffer_pop(&buffer, &area, &popped) != -2 || popped;
	for (i = 0; i < RSEQ_RT_BUFFER_CAPACITY; i++)
		wrong |= rseq_rt_buffer_push(&buffer, i % 2 ? &area : NULL, &storage[0][0] + i);
	wrong |= rseq_rt_buffer_push(&buffer, &area, &area) != -28;
	wrong |= rseq_rt_buffer_repair_in_fork_child(NULL) != -14 || rseq_rt_buffer_repair_in_fork_child(&buffer);
	wrong |= rseq_rt_buffer_pop(&buffer, NULL, &popped) || !popped;
	wrong |= rseq_rt_buffer_drain(&buffer, NULL, 0, each, NULL) != -14;
	wrong |= rseq_rt_buffer_drain(&buffer, &fence, 0, NULL, NULL) != -14;
	wrong |= rseq_rt_buffer_drain(&buffer, &fence, 2, each, NULL) != -22;
	wrong |= rseq_rt_buffer_drain_overflow(&buffer, NULL, NULL) != -14 || given;
	wrong |= rseq_rt_buffer_drain_overflow(&buffer, each, NULL) != 29 || given != 29;

	given = 0;
	wrong |= rseq_rt_bytes_init(&bytes, log_storage, 256, 2) || rseq_rt_bytes_init(NULL, storage, 256, 2) != -14;
	wrong |= rseq_rt_bytes_push(NULL, &area, "abcd", 4) != -14 || rseq_rt_bytes_push(&bytes, &area, NULL, 4) != -14;
	wrong |= rseq_rt_bytes_push(&bytes, &area, storage, RSEQ_RT_BYTES_CAPACITY + 1) != -28;
	wrong |= rseq_rt_bytes_push(&bytes, &area, "abcd", 4) != 0;
	wrong |= rseq_rt_bytes_push(&bytes, NULL, storage, RSEQ_RT_BYTES_CAPACITY - 3) != -28;
	wrong |= rseq_rt_bytes_repair_in_fork_child(NULL) != -14 || rseq_rt_bytes_repair_in_fork_child(&bytes);
	wrong |= rseq_rt_bytes_drain(&bytes, NULL, 0, records, NULL) != -14;
	wrong |= rseq_rt_bytes_drain(&bytes, &fence, 0, NULL, NULL) != -14;
	wrong |= rseq_rt_bytes_drain(&bytes, &fence, 2, records, NULL) != -22;
	wrong |= rseq_rt_bytes_drain_overflow(&bytes, NULL, NULL) != -14 || given;
	wrong |= rseq_rt_bytes_drain_overflow(&bytes, records, NULL) != 4 || given != 1;
	return wrong;
}
