/* The cache of one CPU: interrupted by handlers that use it too, and left behind on a CPU that is offline. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "../cpus.h"
#include "test.h"

/* Only with `--malloc percpu`. */
int malloc_trim(size_t) __attribute__((__weak__));

/* Far fewer than a cache holds. */
#define BLOCKS 64
#define SIZE 48

static unsigned char *blocks[BLOCKS];

static unsigned char *marked(unsigned char mark)
{
	unsigned char *block = malloc(SIZE);
	if (!block) {
		fail(__FILE__, __LINE__, "no block for %#x", mark);
		_exit(1);
	}
	return memset(block, mark, SIZE);
}

/* A block that was handed out twice has another mark. */
static void look_and_free(unsigned char *block, unsigned char mark)
{
	for (int i = 0; i < SIZE; i++)
		if (block[i] != mark) {
			fail(__FILE__, __LINE__, "a block of %#x has %#x at %d", mark, block[i], i);
			break;
		}
	free(block);
}

/* Afterwards the cache of the CPU has that many. */
static void fill_cache(void)
{
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = marked(i);
	for (int i = 0; i < BLOCKS; i++)
		look_and_free(blocks[i], i);
}

static void *filling(void *cpu)
{
	CHECK_IS(move_to_cpu(0, *(int *)cpu), 0);
	fill_cache();
	return NULL;
}

/* By a thread, so that there are caches. */
static void fill_cache_of(int cpu)
{
	pthread_t thread;
	CHECK_IS(pthread_create(&thread, NULL, filling, &cpu), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
}

/* ---- handlers ---- */

#define IN_USE 4

static unsigned char *of_thread[IN_USE], *of_handlers[IN_USE];
static volatile int handled;
static int wanted;

/* Allocates before it frees: a handler that only borrowed a block would leave the cache as it was. */
static void replace(unsigned char **block, unsigned char mark)
{
	unsigned char *old = *block;
	*block = marked(mark);
	if (old)
		look_and_free(old, mark);
}

/* Starts the timer anew, so that there is progress where a handler takes longer than the period. */
static void allocating(int number)
{
	int nth = handled;
	struct itimerval next = { { 0, 0 }, { 0, 10 + nth * 7 % 50 } };
	(void)number;
	replace(&of_handlers[nth % IN_USE], 0x80 + nth % IN_USE);
	handled = nth + 1;
	if (handled < wanted)
		setitimer(ITIMER_REAL, &next, NULL);
}

/* The cache is never empty or full, and the thread stays on its CPU, so that neither it nor a handler takes a lock. */
static void malloc_in_a_handler(void)
{
	struct sigaction action = { .sa_handler = allocating };
	int cpu = sched_getcpu(), turns;
	CHECK_IS(move_to_cpu(0, cpu), 0);
	fill_cache_of(cpu);
	if (!malloc_trim || !malloc_trim(0))
		return skip("without caches a handler waits for ever for a lock that it has interrupted");
	fill_cache();
	wanted = scaled(2000, 300, 300);
	CHECK_IS(sigaction(SIGALRM, &action, NULL), 0);
	CHECK_IS(raise(SIGALRM), 0);
	for (turns = 0; handled < wanted; turns++)
		replace(&of_thread[turns % IN_USE], 1 + turns % IN_USE);
	for (int i = 0; i < IN_USE; i++) {
		if (of_thread[i])
			look_and_free(of_thread[i], 1 + i);
		look_and_free(of_handlers[i], 0x80 + i);
	}
	CHECK_IS(malloc_trim(0), 1);
	CHECK_IS(malloc_trim(0), 0);
	tell("%d handlers in %d turns", handled, turns);
}

/* ---- an offline CPU ---- */

/* Whether there is the file and it takes the number; a CPU may need several attempts to come back. */
static int set_online(const char *number)
{
	int file = open("/sys/devices/system/cpu/cpu1/online", O_WRONLY), done = 0;
	for (int i = 0; file >= 0 && !done && i < 10; i++)
		done = write(file, number, 1) == 1;
	if (file >= 0)
		close(file);
	return done;
}

static void malloc_of_an_offline_cpu(void)
{
	struct cpus all;
	if (getppid() != 1)
		return skip("it would take a CPU from this machine");
#ifdef __riscv
	/* The same code on each CPU; and one of some forty boots did not end, by this test or before it. */
	return skip("qemu's machine may hang as a CPU goes or comes");
#endif
	CHECK_IS(allowed_cpus(&all), 0);
	if (!has_cpu(&all, 0) || !has_cpu(&all, 1))
		return skip("CPU 0 or 1 is missing");
	CHECK_IS(move_to_cpu(0, 0), 0);
	fill_cache_of(1);
	if (!malloc_trim || !malloc_trim(0))
		return skip("there are no caches");
	CHECK_IS(malloc_trim(0), 0);
	mkdir("/sys", 0755);
	if (mount("sysfs", "/sys", "sysfs", 0, NULL) != 0 && errno != EBUSY)
		return skip("there is no sysfs: errno %d", errno);
	/* The only cache that is not empty. */
	fill_cache_of(1);
	if (!set_online("0"))
		return skip("this kernel takes no CPU offline: errno %d", errno);
	CHECK_IS(move_to_cpu(0, 1), -1);
	CHECK_IS(malloc_trim(0), 1);
	CHECK_IS(malloc_trim(0), 0);
	fill_cache();
	if (!set_online("1"))
		return skip("CPU 1 does not come back to this kernel: errno %d", errno);
	/* For a moment it may be in no mask. */
	while (move_to_cpu(0, 1) != 0 && errno == EINVAL)
		sched_yield();
	CHECK_IS(move_to_cpu(0, 0), 0);
	fill_cache_of(1);
	fill_cache();
	CHECK_IS(malloc_trim(0), 1);
	CHECK_IS(malloc_trim(0), 0);
	/* The tests behind this one are children of PID 1, whose mask may lack the CPU now. */
	CHECK_IS(allow_cpus(1, &all), 0);
}

const struct test malloc_one_cpu_tests[] = {
	{ "malloc_in_a_handler", malloc_in_a_handler },
	{ "malloc_of_an_offline_cpu", malloc_of_an_offline_cpu },
	{ NULL, NULL },
};
