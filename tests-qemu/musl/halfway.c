/* Thread creations that are refused half-way: an error, nothing left behind, and the next one succeeds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

#define OTHER_USER 65534

static void *life(void *argument)
{
	registered("a thread after a refused one");
	return argument;
}

static void next_one_is_made(void)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, life, NULL);
	CHECK_IS(error, 0);
	if (!error)
		CHECK_IS(pthread_join(thread, NULL), 0);
	registered("who was refused");
}

static void *never(void *argument)
{
	fail(__FILE__, __LINE__, "a refused thread ran");
	return argument;
}

/* Root is refused nothing. */
static void lose_privilege(void)
{
	if (geteuid() == 0)
		CHECK_IS(setresuid(OTHER_USER, OTHER_USER, OTHER_USER), 0);
}

/* Sets the soft limit, to be restored later. */
static int limit(int resource, rlim_t soft, rlim_t *before)
{
	struct rlimit now;
	if (getrlimit(resource, &now) != 0)
		return -1;
	if (before)
		*before = now.rlim_cur;
	now.rlim_cur = soft;
	return setrlimit(resource, &now);
}

void little_room(void)
{
	unsigned long low = 0, high = 1UL << 47, page = 4096;
	while (high - low > page) {
		unsigned long middle = low + (high - low) / 2;
		void *at;
		limit(RLIMIT_AS, middle, NULL);
		at = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED) {
			low = middle;
		} else {
			munmap(at, page);
			high = middle;
		}
	}
	limit(RLIMIT_AS, high + (16UL << 20), NULL);
}

/* Refused attempts: if each left a stack behind, there would soon be no room, which is another error. */
static void refused_often(const pthread_attr_t *attributes, int expected)
{
	pthread_t thread;
	int i, times = scaled(2000, 400, 400);
	for (i = 0; i < times; i++) {
		int error = pthread_create(&thread, attributes, never, NULL);
		if (error != expected) {
			fail(__FILE__, __LINE__, "attempt %d: %d, not %d", i, error, expected);
			return;
		}
	}
	tell("%d refused", times);
}

static void clone_is_refused(void)
{
	rlim_t before;
	pthread_t thread;
	lose_privilege();
	CHECK_IS(limit(RLIMIT_NPROC, 0, &before), 0);
	if (pthread_create(&thread, NULL, life, NULL) == 0) {
		skip("RLIMIT_NPROC does not hold here");
		return;
	}
	little_room();
	refused_often(NULL, EAGAIN);
	CHECK_IS(limit(RLIMIT_NPROC, before, NULL), 0);
	next_one_is_made();
}

static void memory_is_refused(void)
{
	rlim_t before;
	CHECK_IS(limit(RLIMIT_AS, 1, &before), 0);
	if (mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
		skip("RLIMIT_AS does not hold here");
		return;
	}
	refused_often(NULL, EAGAIN);
	CHECK_IS(limit(RLIMIT_AS, before, NULL), 0);
	next_one_is_made();
}

/* musl makes the thread and sets its schedule; on a refusal the thread ends before it has begun. */
static void schedule_is_refused(void)
{
	struct sched_param priority = { .sched_priority = 1 };
	pthread_attr_t attributes;
	lose_privilege();
	CHECK_IS(limit(RLIMIT_RTPRIO, 0, NULL), 0);
	pthread_attr_init(&attributes);
	CHECK_IS(pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED), 0);
	CHECK_IS(pthread_attr_setschedpolicy(&attributes, SCHED_FIFO), 0);
	CHECK_IS(pthread_attr_setschedparam(&attributes, &priority), 0);
	little_room();
	refused_often(&attributes, EPERM);
	CHECK_IS(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED), 0);
	refused_often(&attributes, EPERM);
	next_one_is_made();
}

static void *schedule(void *argument)
{
	/* musl's own function always refuses. */
	CHECK_IS(syscall(SYS_sched_getscheduler, 0), SCHED_BATCH);
	return life(argument);
}

static void schedule_is_granted(void)
{
	struct sched_param priority = { .sched_priority = 0 };
	pthread_attr_t attributes;
	int i;
	pthread_attr_init(&attributes);
	CHECK_IS(pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED), 0);
	CHECK_IS(pthread_attr_setschedpolicy(&attributes, SCHED_BATCH), 0);
	CHECK_IS(pthread_attr_setschedparam(&attributes, &priority), 0);
	for (i = 0; i < 20; i++) {
		pthread_t thread;
		CHECK_IS(pthread_create(&thread, &attributes, schedule, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
	}
}

const struct test halfway_tests[] = {
	{ "clone_is_refused", clone_is_refused },
	{ "memory_is_refused", memory_is_refused },
	{ "schedule_is_refused", schedule_is_refused },
	{ "schedule_is_granted", schedule_is_granted },
	{ NULL, NULL },
};
