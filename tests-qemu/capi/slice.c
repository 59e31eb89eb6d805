/*
 * The time-slice extension from C: refused where unavailable, and every end of a request where available. With the
 * argument "here" the kernel has it. As PID 1 this is first a process in which glibc owns rseq, whose area is read but
 * not written, then one in which it does not, and then one whose libc has registered the kernel's whole length.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../cpus.h"
#include "auxv.h"
#include "check.h"
#include "rseq_rt.h"

int failures;

#define REQUEST 1u
#define GRANTED 256u

static rseq_rt_area area = RSEQ_RT_AREA_INIT;

/* In slice-libc.c: registers the main thread, and returns the control word. */
const void *register_as_libc(void) __attribute__((__weak__));

/* Null, unless a libc has registered it. */
static const void *of_libc;
static int is_over;

static void bad_input(void)
{
	rseq_rt_area other = RSEQ_RT_AREA_INIT, before = other;
	rseq_rt_area *misaligned = (rseq_rt_area *)((char *)&other + 4);

	CHECK_IS(rseq_rt_slice_set(NULL, 1), -EFAULT);
	CHECK_IS(rseq_rt_slice_get(NULL), -EFAULT);
	CHECK(!rseq_rt_slice(NULL));
	CHECK_IS(rseq_rt_slice_set(misaligned, 1), -EINVAL);
	CHECK_IS(rseq_rt_slice_get(misaligned), -EINVAL);
	CHECK(!rseq_rt_slice(misaligned));
	CHECK_IS(rseq_rt_slice_set(&other, 1), -EINVAL);
	CHECK_IS(rseq_rt_slice_get(&other), -EINVAL);
	CHECK(!rseq_rt_slice(&other));
	CHECK_IS(memcmp(&other, &before, sizeof other), 0);
	CHECK_IS(rseq_rt_slice_request(NULL), RSEQ_RT_SLICE_OFF);
	CHECK_IS(rseq_rt_slice_yield(NULL, RSEQ_RT_SLICE_OFF), RSEQ_RT_SLICE_OFF);
	CHECK_IS(rseq_rt_slice_yield(NULL, RSEQ_RT_SLICE_NOT_NEEDED), RSEQ_RT_SLICE_NOT_NEEDED);
}

static void not_here(void)
{
	CHECK_IS(rseq_rt_slice_set(&area, 1), -ENOSYS);
	CHECK_IS(rseq_rt_slice_set(&area, 0), -ENOSYS);
	CHECK_IS(rseq_rt_slice_get(&area), -ENOSYS);
	CHECK(!rseq_rt_slice(&area));
}

/* The granting kernel is simulated through the word: each end that needs no system call. */
static void every_end_of_a_request(void)
{
	rseq_rt_slice_control word = 0;
	int outer, inner;

	outer = rseq_rt_slice_request(&word);
	CHECK_IS(word, REQUEST);
	inner = rseq_rt_slice_request(&word);
	CHECK_IS(inner, RSEQ_RT_SLICE_NESTED);
	CHECK_IS(rseq_rt_slice_yield(&word, inner), RSEQ_RT_SLICE_NESTED);
	CHECK_IS(word, REQUEST);
	CHECK_IS(rseq_rt_slice_yield(&word, outer), RSEQ_RT_SLICE_NOT_NEEDED);
	CHECK_IS(word, 0);

	outer = rseq_rt_slice_request(&word);
	word = GRANTED;
	inner = rseq_rt_slice_request(&word);
	CHECK_IS(word, GRANTED);
	CHECK_IS(rseq_rt_slice_yield(&word, inner), RSEQ_RT_SLICE_NESTED);
	CHECK_IS(word, GRANTED);
	/* The kernel has granted nothing, if it has the call at all. */
	CHECK_IS(rseq_rt_slice_yield(&word, outer), RSEQ_RT_SLICE_REVOKED);

	word = 0;
	outer = rseq_rt_slice_request(&word);
	word = 0;
	CHECK_IS(rseq_rt_slice_yield(&word, outer), RSEQ_RT_SLICE_REVOKED);
}

static void switched_on_and_off(void)
{
	rseq_rt_slice_control *slice;
	int round, token;

	CHECK_IS(rseq_rt_owner(), of_libc ? RSEQ_RT_OWNER_LIBC : RSEQ_RT_OWNER_RUNTIME);
	CHECK(!rseq_rt_slice(&area));
	for (round = 0; round < 2; round++) {
		CHECK_IS(rseq_rt_slice_get(&area), 0);
		CHECK_IS(rseq_rt_slice_set(&area, 1), 0);
		CHECK_IS(rseq_rt_slice_get(&area), 1);
		slice = rseq_rt_slice(&area);
		CHECK(of_libc ? slice == of_libc : slice != NULL);
		token = rseq_rt_vfork_begin(&area);
		CHECK(!rseq_rt_slice(&area));
		CHECK_IS(rseq_rt_slice_set(&area, 0), -EBUSY);
		CHECK_IS(rseq_rt_vfork_end(&area, token), 0);
		CHECK(rseq_rt_slice(&area) == slice);
		CHECK_IS(rseq_rt_slice_set(&area, 0), 0);
		CHECK(!rseq_rt_slice(&area));
	}
	CHECK_IS(rseq_rt_slice_set(&area, 1), 0);
}

static void *competes(void *argument)
{
	struct timespec little = { 0, 20000 };

	CHECK_IS(move_to_cpu(0, (int)(intptr_t)argument), 0);
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		nanosleep(&little, NULL);
	return NULL;
}

static void under_load(void)
{
	rseq_rt_slice_control *slice = rseq_rt_slice(&area);
	int cpu = rseq_rt_cpu(&area), round, ends[5] = { 0 };
	pthread_t rival;
	volatile int spin;

	CHECK_IS(move_to_cpu(0, cpu), 0);
	CHECK_IS(pthread_create(&rival, NULL, competes, (void *)(intptr_t)cpu), 0);
	for (round = 0; slice && round < 2000; round++) {
		int outer = rseq_rt_slice_request(slice), inner, end;

		for (spin = 0; spin < (round % 512) * 16; spin++)
			;
		inner = rseq_rt_slice_request(slice);
		CHECK(*(volatile rseq_rt_slice_control *)slice != (REQUEST | GRANTED));
		CHECK(rseq_rt_slice_yield(slice, inner) != RSEQ_RT_SLICE_OFF);
		end = rseq_rt_slice_yield(slice, outer);
		CHECK(end >= RSEQ_RT_SLICE_NOT_NEEDED && end <= RSEQ_RT_SLICE_REVOKED);
		ends[end]++;
	}
	__atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
	CHECK_IS(pthread_join(rival, NULL), 0);
	printf("%d not needed, %d yielded, %d revoked\n", ends[2], ends[3], ends[4]);
}

/* Continues as another process, with that argument and without glibc's registration. */
static void continue_as(char *program, char *what)
{
	char *words[] = { program, what, NULL };

	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	execv(program, words);
	CHECK(!"the next process");
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "", *tunables = getenv("GLIBC_TUNABLES");
	int is_libc = !strcmp(what, "libc-here"), is_here = is_libc || !strcmp(what, "here");

	RUN(bad_input);
	RUN(every_end_of_a_request);
	if (is_libc)
		of_libc = register_as_libc();
	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	if (rseq_rt_slice_set(&area, 0) == 0) {
		RUN(switched_on_and_off);
		RUN(under_load);
	} else {
		RUN(not_here);
		if (is_here && tunables)
			CHECK(!"the slice extension of this kernel");
	}
	if (!failures && is_here && !is_libc)
		continue_as(arguments[0], tunables ? "libc-here" : "here");
	return failures != 0;
}
