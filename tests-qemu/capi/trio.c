/* A program in place of a libc: areas at one offset from the thread pointer, and the three symbols. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cpus.h"
#include "check.h"
#include "rseq_rt.h"

int failures;

static _Thread_local rseq_rt_area area;

/* They are const to their readers; only here are they read before and after they are filled. */
#define NOW(variable) (*(const volatile __typeof__(variable) *)&(variable))

static void empty_until_exported(void)
{
	CHECK_IS(NOW(__rseq_size), 0);
	CHECK_IS(rseq_rt_export(NULL), -EFAULT);
	CHECK_IS(rseq_rt_export(&area), -EINVAL);
	/* No flag, but not mistaken for a foreign libc's. */
	CHECK_IS(rseq_rt_init(NULL), 0);
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_REGISTERED);
	CHECK_IS(NOW(__rseq_size), 0);
	CHECK_IS(rseq_rt_export(&area), 0);
	CHECK_IS(NOW(__rseq_size), rseq_rt_feature_size());
	CHECK(NOW(__rseq_size) >= 20);
	CHECK_IS(NOW(__rseq_flags), 0);
}

/* As read by a library that knows nothing of this runtime. */
static void found_through_the_symbols(void)
{
	const char *at = (const char *)__builtin_thread_pointer() + NOW(__rseq_offset);
	struct cpus all;
	int number;
	CHECK(at == (const char *)&area);
	allowed_cpus(&all);
	for (number = 0; number < CPUS; number++) {
		if (!has_cpu(&all, number))
			continue;
		CHECK_IS(move_to_cpu(0, number), 0);
		CHECK_IS(*(const volatile int *)(at + 4), number);
	}
	allow_cpus(0, &all);
}

static void *life(void *argument)
{
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	found_through_the_symbols();
	CHECK_IS(rseq_rt_on_thread_exit(&area, RSEQ_RT_RELEASE), RSEQ_RT_RELEASED);
	return argument;
}

static void one_offset_for_all_threads(void)
{
	int i;
	for (i = 0; i < 50; i++) {
		pthread_t thread;
		CHECK_IS(pthread_create(&thread, NULL, life, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
	}
}

int main(void)
{
	RUN(empty_until_exported);
	RUN(found_through_the_symbols);
	RUN(one_offset_for_all_threads);
	return failures != 0;
}
