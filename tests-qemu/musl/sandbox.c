/* A filter that refuses or traps rseq(2) from the middle of the run on. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "filter.h"
#include "rseq.h"
#include "test.h"

#define PARKED 40

struct parked {
	int tid;
	void *stack;
};

static struct parked parked[PARKED];
static sem_t arrived, leave;
static int seen, filtered;

static void note(struct parked *self)
{
	int here;
	self->stack = (void *)((unsigned long)&here & -4096UL);
	__atomic_store_n(&self->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
}

static void *parked_life(void *argument)
{
	registered("before the filter");
	note(argument);
	sem_post(&arrived);
	while (sem_wait(&leave) != 0)
		;
	/* The kernel keeps writing, whatever the filter. */
	CHECK(cpu_id() >= 0);
	return argument;
}

static void *late_life(void *argument)
{
	refused("a thread after the filter");
	if (argument)
		note(argument);
	__atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
	return argument;
}

static int late_c11(void *argument)
{
	late_life(argument);
	return 3;
}

/* Waits until the kernel has no such thread. */
static void gone(int *tid)
{
	while (__atomic_load_n(tid, __ATOMIC_ACQUIRE) == 0)
		usleep(100);
	while (syscall(SYS_tgkill, getpid(), *tid, 0) == 0)
		usleep(100);
}

static int is_mapped(void *page)
{
	unsigned char resident;
	return mincore(page, 4096, &resident) == 0;
}

static void detach(void *(*body)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	CHECK_IS(pthread_create(&thread, &attributes, body, argument), 0);
}

static void moved(const char *where, int cpu)
{
	if (cpu_id() != cpu)
		fail(__FILE__, __LINE__, "%s: on CPU %d cpu_id is %d", where, cpu, cpu_id());
}

static void threads_after(void)
{
	struct trio before = trio_now();
	pthread_t thread;
	thrd_t other;
	int i, result = 0;
	seen = 0;
	for (i = 0; i < scaled(200, 20, 20); i++) {
		CHECK_IS(pthread_create(&thread, NULL, late_life, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
		CHECK_IS(thrd_create(&other, late_c11, NULL), thrd_success);
		CHECK_IS(thrd_join(other, &result), thrd_success);
		CHECK_IS(result, 3);
	}
	CHECK_IS(seen, 2 * i);
	CHECK_IS(before.size, trio_now().size);
	on_each_cpu(moved, "the main thread after the filter");
}

/* Threads that were never registered unmap themselves; there is nothing to unregister. */
static void detached_after(void)
{
	int i;
	for (i = 0; i < scaled(200, 20, 20); i++) {
		struct parked one = { 0, NULL };
		detach(late_life, &one);
		gone(&one.tid);
#ifndef __GLIBC__
		CHECK_IS(is_mapped(one.stack), 0);
#endif
	}
}

/* Threads that the kernel does not let go of leave their memory behind, until the next thread is created. */
static void release_is_refused(void)
{
	int i, kept = 0, left = 0;
	pthread_t thread;
	for (i = 0; i < PARKED; i++)
		sem_post(&leave);
	for (i = 0; i < PARKED; i++)
		gone(&parked[i].tid);
	for (i = 0; i < PARKED; i++)
		kept += is_mapped(parked[i].stack);
	CHECK_IS(kept, PARKED);
	CHECK_IS(pthread_create(&thread, NULL, late_life, NULL), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
	for (i = 0; i < PARKED; i++)
		left += is_mapped(parked[i].stack);
#ifndef __GLIBC__
	CHECK_IS(left, 0);
#endif
	tell("%d registered threads ended, the next one unmapped their memory", kept);
}

static void late_filter(unsigned action, int error)
{
	int i;
	if (!kernel_has_rseq()) {
		skip("there is no rseq(2) here");
		return;
	}
	sem_init(&arrived, 0, 0);
	sem_init(&leave, 0, 0);
	for (i = 0; i < PARKED; i++)
		detach(parked_life, &parked[i]);
	for (i = 0; i < PARKED; i++)
		while (sem_wait(&arrived) != 0)
			;
	answer_traps();
	if (filter_rseq(action, ALL_THREADS) != 0) {
		skip("seccomp takes no filter: errno %d", errno);
		return;
	}
	filtered = 1;
	CHECK_IS(syscall(SYS_rseq, NULL, 0, 0, 0), -1);
	CHECK_IS(errno, error);
	threads_after();
	detached_after();
	release_is_refused();
	threads_after();
}

static void late_filter_eperm(void)
{
	late_filter(REFUSE | EPERM, EPERM);
}

static void late_filter_enosys(void)
{
	late_filter(REFUSE | ENOSYS, ENOSYS);
}

/* The handler runs for the creation of each thread, and for the release of earlier ones. */
static void late_filter_traps(void)
{
	late_filter(TRAP, ENOSYS);
	CHECK(!filtered || trapped >= seen + PARKED);
}

/* Only the main thread was created before. */
static void early_filter_traps(void)
{
	if (!kernel_has_rseq()) {
		skip("there is no rseq(2) here");
		return;
	}
	answer_traps();
	if (filter_rseq(TRAP, ALL_THREADS) != 0) {
		skip("seccomp takes no filter: errno %d", errno);
		return;
	}
	threads_after();
	CHECK(trapped >= seen);
	detached_after();
}

static unsigned own_action;

static void *filtered_life(void *argument)
{
	registered_now("a thread before its filter");
	CHECK_IS(filter_rseq(own_action, THIS_THREAD), 0);
	note(argument);
	return argument;
}

/* Room for a few stacks, and one thread after another that cannot be released. */
static void kept_memory_does_not_grow(void)
{
	static const unsigned actions[] = { REFUSE | EPERM, TRAP };
	int i, rounds = scaled(400, 60, 60);
	pthread_attr_t attributes;
	if (!kernel_has_rseq()) {
		skip("there is no rseq(2) here");
		return;
	}
	answer_traps();
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 1 << 20);
	little_room();
	for (i = 0; i < rounds; i++) {
		struct parked one = { 0, NULL };
		pthread_t thread;
		int error;
		own_action = actions[i % 2];
		error = pthread_create(&thread, &attributes, filtered_life, &one);
		if (error) {
			fail(__FILE__, __LINE__, "thread %d: error %d", i, error);
			return;
		}
		gone(&one.tid);
	}
	registered("their parent");
	tell("%d threads, %d calls trapped", rounds, trapped);
}

const struct test sandbox_tests[] = {
	{ "late_filter_eperm", late_filter_eperm },
	{ "late_filter_enosys", late_filter_enosys },
	{ "late_filter_traps", late_filter_traps },
	{ "early_filter_traps", early_filter_traps },
	{ "kept_memory_does_not_grow", kept_memory_does_not_grow },
	{ NULL, NULL },
};
