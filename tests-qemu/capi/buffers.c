/*
 * The buffers of rseq_rt_buffers.h: registered and unregistered threads push, pop, drain and fork; at the end every
 * pointer is there once, and every record whole.
 */
#define _GNU_SOURCE
#define RSEQ_RT_SLOT_SHIFT 9
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "auxv.h"
#include "check.h"
#include "drains.h"
#include "rseq_rt_buffers.h"

int failures;

#define THREADS 8
#define TURNS 5000
#define OBJECTS 40

struct object {
	int held, seen;
};

/* A record names its thread, and its length follows from its number. */
struct record {
	unsigned char thread, length;
	unsigned char filler[30];
};

static struct rseq_rt_buffer buffer;
static struct rseq_rt_bytes records;
static struct rseq_rt_fence fence;
static struct object objects[OBJECTS];
static size_t count;
static rseq_rt_area main_area = RSEQ_RT_AREA_INIT;
/* Bytes of each thread: pushed, and found in the log. */
static size_t pushed[THREADS + 1], found[THREADS + 1];

static void hold(struct object *object)
{
	/* No other thread has it. */
	CHECK_IS(__atomic_exchange_n(&object->held, 1, __ATOMIC_RELAXED), 0);
}

/* Each slot has room for all of them, as does the overflow slot. */
static void give_back(const rseq_rt_area *area, struct object *object)
{
	__atomic_store_n(&object->held, 0, __ATOMIC_RELAXED);
	CHECK_IS(rseq_rt_buffer_push(&buffer, area, object), 0);
}

static void drained(void *object, void *area)
{
	hold(object);
	give_back(area, object);
}

/* Checks that the records are whole, and each of one thread. */
static void look(const void *bytes, size_t size, void *argument)
{
	const unsigned char *next = bytes, *end = next + size;

	(void)argument;
	while (next < end) {
		const struct record *record = (const void *)next;
		int i;

		if (record->thread > THREADS || record->length < 2 || next + record->length > end) {
			CHECK(!"a whole record");
			return;
		}
		for (i = 0; i < record->length - 2; i++)
			CHECK_IS(record->filler[i], record->thread);
		__atomic_fetch_add(&found[record->thread], record->length, __ATOMIC_RELAXED);
		next += record->length;
	}
}

static void drain_slot_and_overflow(size_t slot)
{
	int taken = rseq_rt_bytes_drain(&records, &fence, slot, look, NULL);

	/* The process may be bound to some CPUs, without membarrier(2). */
	CHECK(taken >= 0 || taken == -EAGAIN || taken == -EINVAL);
	taken = rseq_rt_bytes_drain_overflow(&records, look, NULL);
	CHECK(taken >= 0 || taken == -EAGAIN);
}

static void drain_records(void)
{
	size_t slot;

	for (slot = 0; slot < count; slot++)
		drain_slot_and_overflow(slot);
}

static void log_one(const rseq_rt_area *area, int me, int turn)
{
	struct record record = { (unsigned char)me, (unsigned char)(2 + turn % 31), { 0 } };
	int outcome;

	memset(record.filler, me, sizeof record.filler);
	outcome = rseq_rt_bytes_push(&records, area, &record, record.length);
	if (outcome == 0)
		pushed[me] += record.length;
	else
		CHECK(outcome == -ENOSPC || outcome == -EAGAIN);
}

static void *worker(void *argument)
{
	int me = (int)(intptr_t)argument, i;
	/* Every fourth thread is not registered by this runtime. */
	rseq_rt_area mine = RSEQ_RT_AREA_INIT, *area = me % 4 == 3 ? NULL : &mine;

	if (area)
		CHECK_IS(rseq_rt_on_thread_create(area), 0);
	for (i = 0; i < TURNS; i++) {
		void *object;
		int popped = rseq_rt_buffer_pop(&buffer, area, &object);

		log_one(area, me, i);
		if (!popped) {
			hold(object);
			if (i % 64 == 0)
				sched_yield();
			give_back(area, object);
		} else {
			CHECK(popped == -ENOENT || popped == -EAGAIN);
		}
		if (i % 500 == me) {
			int taken = rseq_rt_buffer_drain(&buffer, &fence, (size_t)i % count, drained, area);
			CHECK(taken >= 0 || taken == -EAGAIN || taken == -EINVAL);
		}
		/* Drains of its own CPU and of others. */
		if (i % 50 == me)
			drain_slot_and_overflow(((size_t)sched_getcpu() + (size_t)(i / 50) % 3) % count);
	}
	if (area)
		rseq_rt_on_thread_exit(area, RSEQ_RT_KEEP);
	return NULL;
}

static void see(void *object, void *argument)
{
	(void)argument;
	((struct object *)object)->seen++;
}

/* Counts all, and returns the number of duplicates. */
static int see_all(int *all)
{
	size_t slot, i;
	int twice = 0;

	for (i = 0; i < OBJECTS; i++)
		objects[i].seen = 0;
	*all = 0;
	for (slot = 0; slot < count; slot++) {
		int taken = rseq_rt_buffer_drain(&buffer, &fence, slot, see, NULL);
		*all += taken > 0 ? taken : 0;
	}
	*all += rseq_rt_buffer_drain_overflow(&buffer, see, NULL);
	for (i = 0; i < OBJECTS; i++)
		twice += objects[i].seen > 1;
	return twice;
}

static void start(pthread_t *threads)
{
	intptr_t i;

	for (i = 0; i < OBJECTS; i++) {
		objects[i].held = 0;
		CHECK_IS(rseq_rt_buffer_push(&buffer, i % 2 ? &main_area : NULL, &objects[i]), 0);
	}
	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_create(&threads[i], NULL, worker, (void *)i), 0);
}

static void join(pthread_t *threads)
{
	int i, all;

	for (i = 0; i < THREADS; i++)
		CHECK_IS(pthread_join(threads[i], NULL), 0);
	drain_records();
	for (i = 0; i < THREADS; i++)
		CHECK_IS(found[i], pushed[i]);
	CHECK_IS(see_all(&all), 0);
	CHECK_IS(all, OBJECTS);
}

static void threads_and_drains(void)
{
	pthread_t threads[THREADS];

	start(threads);
	join(threads);
}

/* Objects in other threads' hands are lost, nothing is duplicated, and all calls work again. */
static int child(void)
{
	void *object;
	size_t before;
	int all, i;

	rseq_rt_repair_in_fork_child(&main_area);
	rseq_rt_buffer_repair_in_fork_child(&buffer);
	rseq_rt_bytes_repair_in_fork_child(&records);
	for (i = 0; i < 1000; i++)
		if (!rseq_rt_buffer_pop(&buffer, i % 2 ? &main_area : NULL, &object))
			CHECK_IS(rseq_rt_buffer_push(&buffer, i % 2 ? &main_area : NULL, object), 0);
	CHECK_IS(see_all(&all), 0);
	CHECK(all <= OBJECTS);
	/* Only whole records of the parent's are left; then there is room. */
	drain_records();
	before = found[THREADS];
	pushed[THREADS] = 0;
	for (i = 0; i < 100; i++)
		log_one(i % 2 ? &main_area : NULL, THREADS, i);
	drain_records();
	CHECK_IS(found[THREADS] - before, pushed[THREADS]);
	CHECK(pushed[THREADS] != 0);
	return failures != 0;
}

static void a_fork_child_repairs(void)
{
	pthread_t threads[THREADS];
	int round;

	start(threads);
	for (round = 0; round < 20; round++) {
		pid_t pid = fork();

		if (!pid)
			_exit(child());
		CHECK_ENDS(pid, 0);
	}
	join(threads);
}

/* A drain of the overflow slot inside a drain of a slot, if the fence is available. */
static int has_slot, is_inside, may_end;

static void waits(const void *bytes, size_t size, void *argument)
{
	(void)bytes;
	(void)size;
	(void)argument;
	__atomic_store_n(&is_inside, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&may_end, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void drains_both(const void *bytes, size_t size, void *argument)
{
	(void)bytes;
	(void)size;
	has_slot = 1;
	CHECK(rseq_rt_bytes_drain_overflow(&records, waits, argument) >= 0);
}

static void *drainer(void *argument)
{
	if (rseq_rt_bytes_drain(&records, &fence, 0, drains_both, argument) < 0)
		CHECK(rseq_rt_bytes_drain_overflow(&records, waits, argument) >= 0);
	return argument;
}

/* Forked in the middle of a drain: closed permanently, which is the broken variant, until repaired. */
static int child_of_a_drain(void)
{
	CHECK_IS(rseq_rt_bytes_push(&records, NULL, "\1\2", 2), -EAGAIN);
	if (has_slot)
		CHECK_IS(rseq_rt_bytes_drain(&records, &fence, 0, look, NULL), -EAGAIN);
	CHECK_IS(rseq_rt_bytes_repair_in_fork_child(&records), 0);
	CHECK_IS(rseq_rt_bytes_push(&records, NULL, "\1\2", 2), 0);
	CHECK_IS(rseq_rt_bytes_drain_overflow(&records, look, NULL), 2);
	if (has_slot)
		CHECK_IS(rseq_rt_bytes_drain(&records, &fence, 0, look, NULL), 0);
	return failures != 0;
}

static void a_drain_that_is_not_in_the_child(void)
{
	pthread_t thread;
	pid_t pid;

	CHECK_IS(pthread_create(&thread, NULL, drainer, NULL), 0);
	while (!__atomic_load_n(&is_inside, __ATOMIC_ACQUIRE))
		sched_yield();
	pid = fork();
	if (!pid)
		_exit(child_of_a_drain());
	CHECK_ENDS(pid, 0);
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	CHECK_IS(pthread_join(thread, NULL), 0);
}

/* As a pop does: one pointer fewer. */
static void fill_buffer(const rseq_rt_area *area)
{
	CHECK_IS(rseq_rt_buffer_push(&buffer, area, &objects[0]), 0);
}

static uintptr_t one_fewer(uintptr_t count_)
{
	return count_ - 1;
}

static void leave(void *object, void *argument)
{
	(void)object;
	(void)argument;
}

static int drain_buffer(size_t slot)
{
	return rseq_rt_buffer_drain(&buffer, &fence, slot, leave, NULL);
}

static int drain_buffer_overflow(void)
{
	return rseq_rt_buffer_drain_overflow(&buffer, leave, NULL);
}

static struct drained popped_buffer = { { NULL, 0 }, fill_buffer, one_fewer, -1, drain_buffer, drain_buffer_overflow };

/* As a push does: a record more, of eight bytes. */
static void fill_log(const rseq_rt_area *area)
{
	CHECK_IS(rseq_rt_bytes_push(&records, area, "a record", 8), 0);
}

static uintptr_t a_record_more(uintptr_t end)
{
	return end + 8;
}

static void leave_bytes(const void *bytes, size_t size, void *argument)
{
	(void)bytes;
	(void)size;
	(void)argument;
}

/* How many records those bytes are. */
static int of_eight(int bytes)
{
	return bytes > 0 ? bytes / 8 : bytes;
}

static int drain_log(size_t slot)
{
	return of_eight(rseq_rt_bytes_drain(&records, &fence, slot, leave_bytes, NULL));
}

static int drain_log_overflow(void)
{
	return of_eight(rseq_rt_bytes_drain_overflow(&records, leave_bytes, NULL));
}

static struct drained pushed_log = { { NULL, 0 }, fill_log, a_record_more, 1, drain_log, drain_log_overflow };

static void a_drain_aborts_a_pop(void)
{
	drain_beside_a_section(&popped_buffer, 0);
}

static void a_drain_aborts_a_record(void)
{
	drain_beside_a_section(&pushed_log, 0);
}

static void a_drain_without_the_fence_pops_twice(void)
{
	drain_beside_a_section(&popped_buffer, 1);
}

static void a_drain_without_the_fence_logs_twice(void)
{
	drain_beside_a_section(&pushed_log, 1);
}

int main(void)
{
	char *storage;
	const char *why;
	int has_fence;

	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), 0);
	CHECK(rseq_rt_allow_sections() != RSEQ_RT_SECTIONS_NOT_ASKED);
	count = rseq_rt_cpu_bound();
	storage = mmap(NULL, 2 * (count + 1) * RSEQ_RT_SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_IS(rseq_rt_buffer_init(&buffer, storage, RSEQ_RT_SLOT_SIZE, count), 0);
	CHECK_IS(rseq_rt_bytes_init(&records, storage + (count + 1) * RSEQ_RT_SLOT_SIZE, RSEQ_RT_SLOT_SIZE, count), 0);
	popped_buffer.slots = buffer.rseq_rt_opaque;
	pushed_log.slots = records.rseq_rt_opaque;
	has_fence = rseq_rt_fence_register(&fence);
	CHECK(has_fence >= 0);
	RUN(threads_and_drains);
	RUN(a_fork_child_repairs);
	RUN(a_drain_that_is_not_in_the_child);
	why = no_drains(&main_area, has_fence, count);
	if (why) {
		SKIP(drains_beside_sections, why);
	} else {
		RUN(a_drain_aborts_a_pop);
		RUN(a_drain_aborts_a_record);
		RUN(a_drain_without_the_fence_pops_twice);
		RUN(a_drain_without_the_fence_logs_twice);
	}
	return failures != 0;
}
