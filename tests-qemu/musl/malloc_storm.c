/*
 * Threads that allocate, free other threads' blocks, fork and exit, under signals and with the caches being trimmed.
 * Each block is filled with its own pattern and checked before it is freed: a block that was handed out twice has
 * another's pattern.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filter.h"
#include "rseq.h"
#include "test.h"

/* Only with `--malloc percpu`. */
int malloc_trim(size_t) __attribute__((__weak__));

#define SHELVES 512
#define AT_A_TIME 8

/* The start of a block; the rest is filled with one byte. */
struct block {
	uint32_t size, mark;
};

static struct block *shelves[SHELVES];
static int alive, stop;
static unsigned forks, trims, marks;

static uint64_t next(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random >> 8;
}

static size_t any_size(uint64_t *random)
{
	uint64_t kind = next(random) % 64, more = next(random);
	size_t most = kind < 48 ? 256 : kind < 60 ? 2048 : kind < 63 ? 20000 : 200000;
	return sizeof(struct block) + more % most;
}

static void *filled(void *made, size_t size)
{
	struct block *block = made;
	uint32_t mark = __atomic_add_fetch(&marks, 1, __ATOMIC_RELAXED);
	if (!block) {
		fail(__FILE__, __LINE__, "no block of %zu bytes", size);
		_exit(1);
	}
	memset(block + 1, (unsigned char)mark, size - sizeof *block);
	*block = (struct block){ size, mark };
	return block;
}

static void look(const struct block *block)
{
	const unsigned char *bytes = (const void *)(block + 1);
	uint32_t size = block->size, mark = block->mark, i;
	for (i = 0; i < size - sizeof *block; i++)
		if (bytes[i] != (unsigned char)mark) {
			fail(__FILE__, __LINE__, "a block of %u bytes has another's: %#x at %u, not %#x", size, bytes[i], i,
			     mark & 255);
			return;
		}
}

static void *any_block(uint64_t *random)
{
	size_t size = any_size(random), align, i;
	unsigned char *made;
	switch (next(random) % 8) {
	case 0:
		made = calloc(1, size);
		for (i = 0; made && i < size; i++)
			if (made[i]) {
				fail(__FILE__, __LINE__, "calloc(%zu): %#x at %zu", size, made[i], i);
				break;
			}
		break;
	case 1:
		align = 16 << next(random) % 6;
		made = aligned_alloc(align, size);
		if ((uintptr_t)made % align)
			fail(__FILE__, __LINE__, "%p is not aligned to %zu", (void *)made, align);
		break;
	default:
		made = malloc(size);
	}
	if (made && (malloc_usable_size(made) < size || (uintptr_t)made % 16))
		fail(__FILE__, __LINE__, "%p of %zu bytes: %zu usable", (void *)made, size, malloc_usable_size(made));
	return filled(made, size);
}

/* The content is kept, as far as it fits. */
static struct block *resized(struct block *block, uint64_t *random)
{
	size_t size = any_size(random);
	struct block *now = realloc(block, size);
	if (now && now->size > size)
		now->size = size;
	if (now)
		look(now);
	return filled(now, size);
}

static void some_work(uint64_t seed, int steps)
{
	uint64_t random = seed * 0x9e3779b97f4a7c15u + 1;
	for (int i = 0; i < steps; i++) {
		struct block **shelf = &shelves[next(&random) % SHELVES], *block = any_block(&random);
		block = __atomic_exchange_n(shelf, block, __ATOMIC_ACQ_REL);
		if (!block)
			continue;
		look(block);
		if (next(&random) % 8 == 0)
			block = resized(block, &random);
		free(block);
	}
}

/* More of one size than a cache holds, so that halves of caches come and go by the depot. */
static void burst(uint64_t random)
{
	struct block *blocks[600];
	size_t size = sizeof(struct block) + next(&random) % 128;
	for (int i = 0; i < 600; i++)
		blocks[i] = filled(malloc(size), size);
	for (int i = 0; i < 600; i++) {
		look(blocks[i]);
		free(blocks[i]);
	}
}

static void *worker(void *number)
{
	if ((uintptr_t)number % 8 == 0)
		burst((uintptr_t)number + 1);
	some_work((uintptr_t)number, scaled(400, 100, 100));
	__atomic_sub_fetch(&alive, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Detached, so that it unmaps itself: the blocks it has freed stay with the CPU. */
static void one_more(uintptr_t number)
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	while (__atomic_load_n(&alive, __ATOMIC_ACQUIRE) >= AT_A_TIME)
		usleep(scaled(100, 1000, 1000));
	__atomic_add_fetch(&alive, 1, __ATOMIC_RELAXED);
	CHECK_IS(pthread_create(&thread, &attributes, worker, (void *)number), 0);
}

/* Checks the parent's blocks, frees them, and continues with its own threads. */
static void child(void)
{
	struct itimerval never = { { 0, 0 }, { 0, 0 } };
	setitimer(ITIMER_REAL, &never, NULL);
	for (int i = 0; i < SHELVES; i++) {
		if (!shelves[i])
			continue;
		look(shelves[i]);
		free(shelves[i]);
		shelves[i] = NULL;
	}
	alive = 0;
	for (int i = 0; i < 2; i++)
		one_more(forks * 100 + i);
	some_work(forks, 200);
	while (__atomic_load_n(&alive, __ATOMIC_ACQUIRE))
		usleep(100);
	if (malloc_trim)
		malloc_trim(0);
}

static void *forker(void *argument)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int status = in_child(child);
		if (status != DONE)
			fail(__FILE__, __LINE__, "a child of the storm: status %#x", status);
		forks++;
		usleep(scaled(5000, 50000, 50000));
	}
	return argument;
}

static void *trimmer(void *argument)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		trims += malloc_trim(0);
		usleep(scaled(1000, 20000, 20000));
	}
	return argument;
}

static void nothing(int number)
{
	(void)number;
}

static void storm(int threads, int filtered)
{
	int period = scaled(500, 20000, 5000), i;
	struct itimerval often = { { 0, period }, { 0, period } };
	struct sigaction action = { .sa_handler = nothing, .sa_flags = SA_RESTART };
	pthread_t beside[2];
	/* A qemu-user fork from a process of many threads finds qemu's own locks held. */
	int with_forks = scaled(1, 1, 0);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	if (with_forks)
		CHECK_IS(pthread_create(&beside[0], NULL, forker, NULL), 0);
	if (malloc_trim)
		CHECK_IS(pthread_create(&beside[1], NULL, trimmer, NULL), 0);
	for (i = 0; i < threads; i++) {
		/* From here on new threads are unregistered, and work beside registered ones. */
		if (filtered && i == threads / 2 && filter_rseq(REFUSE | ENOSYS, THIS_THREAD) != 0) {
			skip("seccomp takes no filter: errno %d", errno);
			break;
		}
		one_more(i);
	}
	while (__atomic_load_n(&alive, __ATOMIC_ACQUIRE))
		usleep(1000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	if (with_forks)
		CHECK_IS(pthread_join(beside[0], NULL), 0);
	if (malloc_trim) {
		CHECK_IS(pthread_join(beside[1], NULL), 0);
		malloc_trim(0);
		CHECK_IS(malloc_trim(0), 0);
#ifndef __aarch64__
		/* There the kernel may be known not to abort sections. */
		CHECK(trims > 0 || !trio_now().size);
#endif
	}
	for (i = 0; i < SHELVES; i++)
		if (shelves[i]) {
			look(shelves[i]);
			free(shelves[i]);
		}
	tell("%d threads, %u blocks, %u children, caches given back %u times", threads, marks, forks, trims);
}

static void malloc_storm(void)
{
	storm(scaled(1000, 60, 40), 0);
}

static void malloc_storm_half_refused(void)
{
	storm(scaled(300, 40, 40), 1);
}

const struct test malloc_storm_tests[] = {
	{ "malloc_storm", malloc_storm },
	{ "malloc_storm_half_refused", malloc_storm_half_refused },
	{ NULL, NULL },
};
