/*
 * Four threads count requests without an atomic instruction, and take objects from a pool.
 *
 *     cargo xtask staticlib --out DIR
 *     cc examples/c/requests.c $(PKG_CONFIG_PATH=DIR/lib/pkgconfig pkg-config --cflags --libs rseq_rt) -pthread
 *
 * Under a glibc that owns rseq it uses glibc's registration; elsewhere the library registers each thread, in an area on
 * the thread's own stack. The exit hook unregisters it, since the libc may free that stack at any time afterwards. A
 * thread that may end by pthread_exit(3) or deferred cancellation makes the same calls in a cleanup handler.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "rseq_rt.h"
#include "rseq_rt_percpu.h"
#include "rseq_rt_structures.h"

#define THREADS 4
#define REQUESTS 100000

struct slot {
	uintptr_t requests;
} __attribute__((__aligned__(128)));

struct object {
	struct rseq_rt_node node; /* first: a node of the list is its object */
	char data[100];
};

static struct rseq_rt_slots slots;
static uintptr_t without; /* requests of threads that had no slot */
static struct rseq_rt_list pool;

static void *memory(size_t size, size_t count)
{
	void *storage = NULL;

	if (posix_memalign(&storage, 128, size * count))
		abort();
	for (size_t i = 0; i < size * count; i++)
		((char *)storage)[i] = 0;
	return storage;
}

static void request(const rseq_rt_area *area)
{
	struct rseq_rt_node *node;
	struct object *object;

	if (rseq_rt_percpu_add(rseq_rt_current(area), slots, offsetof(struct slot, requests), 1))
		__atomic_add_fetch(&without, 1, __ATOMIC_RELAXED);
	/* A new object if this CPU's stack is empty. */
	object = rseq_rt_list_pop(&pool, area, &node) ? memory(sizeof *object, 1) : (struct object *)node;
	object->data[0]++;
	rseq_rt_list_push(&pool, area, &object->node);
}

static void *thread(void *argument)
{
	rseq_rt_area area = RSEQ_RT_AREA_INIT;
	sigset_t all, before;

	rseq_rt_on_thread_create(&area);
	for (int i = 0; i < REQUESTS; i++)
		request(&area);

	/* This function returns to the libc, so signals are unblocked again after the exit hook. */
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rseq_rt_on_thread_exit_masked(&area, RSEQ_RT_RELEASE);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return argument;
}

int main(void)
{
	/* AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN. */
	unsigned long auxv[] = { 27, getauxval(27), 28, getauxval(28), 0, 0 };
	/* Not on main's stack: the kernel writes to it until the process ends, which is after main has returned. */
	static rseq_rt_area area = RSEQ_RT_AREA_INIT;
	pthread_t threads[THREADS];
	size_t possible = rseq_rt_possible_cpu_bound(), i;
	/* Without /sys: an upper bound of the number of CPUs. */
	size_t count = possible ? possible : rseq_rt_cpu_bound();
	struct slot *storage = memory(sizeof *storage, count);
	uintptr_t sum;
	char report[1024];

	/* Once, in this order; then the main thread's create hook, as on any other thread. */
	if (rseq_rt_init(auxv) || rseq_rt_slots_init(&slots, storage, sizeof *storage, count)
	    || rseq_rt_list_init(&pool, memory(RSEQ_RT_LINE, count), count))
		return 1;
	rseq_rt_allow_sections();
	rseq_rt_on_thread_create(&area);
	request(&area);

	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, thread, NULL))
			return 1;
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);

	for (sum = without, i = 0; i < count; i++)
		sum += storage[i].requests;
	rseq_rt_report(&area, report, sizeof report);
	printf("%lu requests, %lu of them without a slot\n%s", (unsigned long)sum, (unsigned long)without, report);
	return sum != (uintptr_t)THREADS * REQUESTS + 1;
}
