/*
 * The structures of rseq_rt_structures.h: registered and unregistered threads add, push, pop, drain and fork; at the
 * end every sum is exact, and every node is there once.
 */
#define _GNU_SOURCE
/* A slot is a line. */
#if defined(__riscv)
#define RSEQ_RT_SLOT_SHIFT 6
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "auxv.h"
#include "check.h"
#include "drains.h"
#include "rseq_rt_percpu.h"
#include "rseq_rt_structures.h"

int failures;

#define THREADS 8
#define TURNS 20000
#define NODES 64

struct object {
	struct rseq_rt_node node;
	int held, seen;
};

static struct rseq_rt_counter counter;
static struct rseq_rt_list list;
static struct rseq_rt_fence fence;
static struct object objects[NODES];
static size_t count;
static rseq_rt_area main_area = RSEQ_RT_AREA_INIT;

static void hold(struct rseq_rt_node *node)
{
	/* No other thread has it. */
	CHECK_IS(__atomic_exchange_n(&((struct object *)node)->held, 1, __ATOMIC_RELAXED), 0);
}

static void give_back(const rseq_rt_area *area, struct rseq_rt_node *node)
{
	__atomic_store_n(&((struct object *)node)->held, 0, __ATOMIC_RELAXED);
	CHECK_IS(rseq_rt_list_push(&list, area, node), 0);
}

static void drained(struct rseq_rt_node *node, void *area)
{
	hold(node);
	give_back(area, node);
}

static void *worker(void *argument)
{
	int me = (int)(intptr_t)argument, i;
	/* Every fourth thread is not registered by this runtime. */
	rseq_rt_area mine = RSEQ_RT_AREA_INIT, *area = me % 4 == 3 ? NULL : &mine;

	if (area)
		CHECK_IS(rseq_rt_on_thread_create(area), 0);
	for (i = 0; i < TURNS; i++) {
		struct rseq_rt_node *node;
		int popped = rseq_rt_list_pop(&list, area, &node);

		CHECK_IS(rseq_rt_counter_add(&counter, area, 3), 0);
		if (!popped) {
			hold(node);
			if (i % 64 == 0)
				sched_yield();
			give_back(area, node);
		} else {
			CHECK(popped == -ENOENT || popped == -EAGAIN);
		}
		if (i % 500 == me) {
			int taken = rseq_rt_list_drain(&list, &fence, (size_t)i % count, drained, area);
			/* The process may be bound to some CPUs, without membarrier(2). */
			CHECK(taken >= 0 || taken == -EAGAIN || taken == -EINVAL);
		}
	}
	if (area)
		rseq_rt_on_thread_exit(area, RSEQ_RT_KEEP);
	return NULL;
}

static void see(struct rseq_rt_node *node, void *argument)
{
	(void)argument;
	((struct object *)node)->seen++;
}

static int each_is_there_once(void)
{
	size_t slot, i;
	int all = 0, wrong = 0;

	for (i = 0; i < NODES; i++)
		objects[i].seen = 0;
	for (slot = 0; slot < count; slot++) {
		int taken = rseq_rt_list_drain(&list, &fence, slot, see, NULL);
		all += taken > 0 ? taken : 0;
	}
	all += rseq_rt_list_drain_overflow(&list, see, NULL);
	for (i = 0; i < NODES; i++)
		wrong += objects[i].seen != 1;
	return all == NODES && !wrong;
}

static void refill(void)
{
	size_t i;

	for (i = 0; i < NODES; i++) {
		objects[i].held = 0;
		CHECK_IS(rseq_rt_list_push(&list, i % 2 ? &main_area : NULL, &objects[i].node), 0);
	}
}

static void threads_and_drains(void)
{
	pthread_t threads[THREADS];
	intptr_t i;

	refill();
	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_create(&threads[i], NULL, worker, (void *)i), 0);
	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_join(threads[i], NULL), 0);
	CHECK_IS(rseq_rt_counter_sum(&counter), (size_t)3 * THREADS * TURNS);
	CHECK(each_is_there_once());
}

static void a_fork_child_repairs(void)
{
	pthread_t threads[THREADS];
	intptr_t i;
	int round;

	refill();
	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_create(&threads[i], NULL, worker, (void *)i), 0);
	for (round = 0; round < 20; round++) {
		pid_t child = fork();
		if (!child) {
			struct rseq_rt_node *node;
			size_t before = rseq_rt_counter_sum(&counter);
			int popped = 0;
			for (i = 0; i < NODES; i++)
				objects[i].seen = 0;
			rseq_rt_repair_in_fork_child(&main_area);
			rseq_rt_list_repair_in_fork_child(&list);
			for (i = 0; i < 1000; i++) {
				rseq_rt_counter_add(&counter, &main_area, 1);
				if (!rseq_rt_list_pop(&list, &main_area, &node)) {
					popped++;
					rseq_rt_list_push(&list, &main_area, node);
				}
			}
			/* Objects in other threads' hands are lost, never more than those can hold. */
			for (i = 0; i < (intptr_t)count; i++)
				rseq_rt_list_drain(&list, &fence, (size_t)i, see, NULL);
			rseq_rt_list_drain_overflow(&list, see, NULL);
			for (i = 0; i < NODES; i++)
				popped = objects[i].seen > 1 ? -1 : popped;
			_exit(popped < 0 || rseq_rt_counter_sum(&counter) - before != 1000);
		}
		CHECK_ENDS(child, 0);
	}
	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_join(threads[i], NULL), 0);
	CHECK(each_is_there_once());
}

static void a_fence_aborts(void)
{
	CHECK_IS(rseq_rt_fence_abort(&fence, (size_t)sched_getcpu()), 0);
}

/* As a pop does: the list's first node goes, which is the only one. */
static struct rseq_rt_list beside;
static struct rseq_rt_node item;

static void fill(const rseq_rt_area *area)
{
	CHECK_IS(rseq_rt_list_push(&beside, area, &item), 0);
}

static uintptr_t behind_the_first(uintptr_t word)
{
	(void)word;
	return item.rseq_rt_opaque;
}

static void leave(struct rseq_rt_node *node, void *argument)
{
	(void)node;
	(void)argument;
}

static int drain(size_t slot)
{
	return rseq_rt_list_drain(&beside, &fence, slot, leave, NULL);
}

static int drain_overflow(void)
{
	return rseq_rt_list_drain_overflow(&beside, leave, NULL);
}

static struct drained popped_list = { { NULL, 0 }, fill, behind_the_first, -1, drain, drain_overflow };

static void a_drain_aborts_a_pop(void)
{
	drain_beside_a_section(&popped_list, 0);
}

static void a_drain_without_the_fence_is_seen(void)
{
	drain_beside_a_section(&popped_list, 1);
}

int main(void)
{
	struct rseq_rt_line *lines;
	const char *why;
	int has_fence;

	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), 0);
	CHECK(rseq_rt_allow_sections() != RSEQ_RT_SECTIONS_NOT_ASKED);
	count = rseq_rt_cpu_bound();
	lines = mmap(NULL, 3 * count * sizeof *lines, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_IS(rseq_rt_counter_init(&counter, lines, count), 0);
	CHECK_IS(rseq_rt_list_init(&list, lines + count, count), 0);
	CHECK_IS(rseq_rt_list_init(&beside, lines + 2 * count, count), 0);
	CHECK_IS(rseq_rt_slots_init(&popped_list.slots, lines + 2 * count, sizeof *lines, count), 0);
	has_fence = rseq_rt_fence_register(&fence);
	CHECK(has_fence >= 0);
	RUN(a_fence_aborts);
	RUN(threads_and_drains);
	RUN(a_fork_child_repairs);
	why = no_drains(&main_area, has_fence, count);
	if (why) {
		SKIP(drains_beside_sections, why);
	} else {
		RUN(a_drain_aborts_a_pop);
		RUN(a_drain_without_the_fence_is_seen);
	}
	return failures != 0;
}
