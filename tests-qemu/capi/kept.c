/* Threads whose memory must outlive them although they should unmap it, and the later unmap. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "filter.h"
#include "raw.h"

int failures;

static rseq_rt_area main_area;

static int is_mapped(struct raw *thread)
{
	unsigned char resident;
	return mincore(thread, 4096, &resident) == 0;
}

static void alone(void)
{
	while (tasks() > 1)
		usleep(100);
}

static int raw_told(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(filter_call(SYS_rseq, REFUSE(EPERM)), 0);
	CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_RELEASE), RSEQ_RT_KEPT);
	CHECK_IS(rseq_rt_thread_errno(&thread->area), EPERM);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_EXITING);
	return 7;
}

/* The joiner's proof is still valid. */
static void refused_release_keeps(void)
{
	struct raw *thread = raw_start(raw_told, NULL);
	raw_join(thread);
	CHECK_IS(thread->outcome, 7);
	CHECK_IS(rseq_rt_recycle(&thread->area), 0);
	CHECK_IS(rseq_rt_sweep(), 0);
	raw_free(thread);
}

static int raw_refused(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(filter_call(SYS_rseq, REFUSE(EPERM)), 0);
	rseq_rt_unmap_and_exit(&thread->area, thread, RAW_SIZE);
}

/* One swept explicitly, then two by the create hook of the next thread. */
static void sweep_unmaps_what_was_refused(void)
{
	struct raw *one = raw_start(raw_refused, NULL), *two;
	alone();
	CHECK_IS(is_mapped(one), 1);
	CHECK_IS(rseq_rt_sweep(), 1);
	CHECK_IS(is_mapped(one), 0);
	CHECK_IS(rseq_rt_sweep(), 0);
	one = raw_start(raw_refused, NULL);
	two = raw_start(raw_refused, NULL);
	alone();
	/* The later one may have swept the other one, if that was gone by then. */
	CHECK(is_mapped(one) || is_mapped(two));
	CHECK_IS(rseq_rt_on_thread_create(&main_area), -EALREADY);
	CHECK_IS(is_mapped(one), 0);
	CHECK_IS(is_mapped(two), 0);
	CHECK_IS(rseq_rt_sweep(), 0);
}

/* An area that a sweep will inspect must not be reused. */
static void deferred_area_is_not_recycled(void)
{
	struct raw *thread = raw_start(raw_refused, NULL);
	rseq_rt_area before;
	alone();
	memcpy(&before, &thread->area, sizeof(before));
	CHECK_IS(rseq_rt_recycle(&thread->area), -EBUSY);
	CHECK_IS(memcmp(&before, &thread->area, sizeof(before)), 0);
	CHECK_IS(rseq_rt_sweep(), 1);
	CHECK_IS(is_mapped(thread), 0);
}

/* Another area, e.g. an allocator's, in the same mapping. */
static int raw_taken(struct raw *thread)
{
	CHECK_IS(syscall(SYS_rseq, thread->other, 32, 0, RSEQ_RT_SIG), 0);
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_UNAVAILABLE);
	CHECK_IS(rseq_rt_thread_errno(&thread->area), EBUSY);
	CHECK_IS(rseq_rt_owner(), RSEQ_RT_OWNER_RUNTIME);
	if (thread->argument) {
		CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_RELEASE), RSEQ_RT_KEPT);
		CHECK_IS(rseq_rt_thread_errno(&thread->area), EBUSY);
		return 7;
	}
	rseq_rt_unmap_and_exit(&thread->area, thread, RAW_SIZE);
}

static void taken_thread_is_kept(void)
{
	struct raw *thread = raw_start(raw_taken, &main_area);
	raw_join(thread);
	CHECK_IS(thread->outcome, 7);
	raw_free(thread);
	thread = raw_start(raw_taken, NULL);
	alone();
	CHECK_IS(is_mapped(thread), 1);
	CHECK_IS(rseq_rt_sweep(), 1);
	CHECK_IS(is_mapped(thread), 0);
}

static int raw_no_tid_address(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(filter_call(SYS_set_tid_address, REFUSE(EPERM)), 0);
	if (thread->argument)
		CHECK_IS(filter_call(SYS_rseq, REFUSE(EPERM)), 0);
	rseq_rt_unmap_and_exit(&thread->area, thread, RAW_SIZE);
}

/* The kernel will write to the thread's clear-tid word, whose memory must stay until then: released or not. */
static void refused_set_tid_address_leaks(void)
{
	int kept;
	for (kept = 0; kept < 2; kept++) {
		struct raw *thread = raw_start(raw_no_tid_address, kept ? &main_area : NULL);
		raw_join(thread);
		alone();
		CHECK_IS(rseq_rt_sweep(), 0);
		CHECK_IS(is_mapped(thread), 1);
		raw_free(thread);
	}
}

/* Each in its own process: a failure is fatal. */
static void separately(const char *name, void (*test)(void))
{
	int before = failures;
	pid_t child;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		alarm(60);
		failures = 0;
		test();
		_exit(failures != 0);
	}
	CHECK_ENDS(child, 0);
	printf("%s: %s\n", name, failures == before ? "passed" : "failed");
}

#define SEPARATELY(test) separately(#test, test)

int main(void)
{
	CHECK_IS(rseq_rt_init(NULL), 0);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), 0);
	CHECK_IS(rseq_rt_thread_state(&main_area), RSEQ_RT_REGISTERED);
	SEPARATELY(refused_release_keeps);
	SEPARATELY(sweep_unmaps_what_was_refused);
	SEPARATELY(deferred_area_is_not_recycled);
	SEPARATELY(taken_thread_is_kept);
	SEPARATELY(refused_set_tid_address_leaks);
	return failures != 0;
}
