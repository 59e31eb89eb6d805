/* Life cycles of threads: the libc's own, and raw ones that unmap their own memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cpus.h"
#include "check.h"
#include "hooks.h"

static int raw_keep(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	/* The thread pointer is the parent's: under a libc's ownership, so is the area at it. */
	if (owner == RSEQ_RT_OWNER_RUNTIME) {
		CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_REGISTERED);
		agrees_with_getcpu(&thread->area);
	}
	CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_KEEP), RSEQ_RT_KEPT);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_EXITING);
	CHECK_IS(rseq_rt_thread_errno(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_KEEP), -ESRCH);
	CHECK_IS(rseq_rt_ensure_registered(&thread->area), RSEQ_RT_EXITING);
	return 7;
}

static int raw_release(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_RELEASE), RSEQ_RT_RELEASED);
	CHECK_IS(rseq_rt_on_thread_exit_masked(&thread->area, RSEQ_RT_RELEASE), -ESRCH);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_EXITING);
	/* Back into a pool, and out of it again: on the same thread, the hardest case. */
	CHECK_IS(rseq_rt_recycle(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_create(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_exit(&thread->area, RSEQ_RT_RELEASE), RSEQ_RT_RELEASED);
	return 7;
}

static void joined(int (*body)(struct raw *))
{
	int i;
	for (i = 0; i < ROUNDS; i++) {
		struct raw *thread = raw_start(body, NULL);
		raw_join(thread);
		CHECK_IS(thread->outcome, 7);
		CHECK_IS(rseq_rt_recycle(&thread->area), 0);
		CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_UNREGISTERED);
		raw_free(thread);
	}
}

void raw_threads_keep(void)
{
	joined(raw_keep);
}

void raw_threads_release(void)
{
	joined(raw_release);
}

static int unmapped;

static int raw_detached(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	__atomic_add_fetch(&unmapped, 1, __ATOMIC_RELAXED);
	rseq_rt_unmap_and_exit(&thread->area, thread, RAW_SIZE);
}

void raw_threads_unmap_themselves(void)
{
	unsigned char resident;
	void *last = NULL;
	int i, patience;
	unmapped = 0;
	for (i = 0; i < 10 * ROUNDS; i++)
		last = raw_start(raw_detached, NULL);
	for (patience = 0; patience < 10000 && tasks() > 1; patience++)
		usleep(1000);
	CHECK_IS(unmapped, 10 * ROUNDS);
	CHECK_IS(tasks(), 1);
	CHECK_IS(mincore(last, 4096, &resident), -1);
	CHECK_IS(errno, ENOMEM);
}

static int raw_never_created(struct raw *thread)
{
	rseq_rt_unmap_and_exit(&thread->area, thread, RAW_SIZE);
}

void unmap_without_proof_leaks(void)
{
	struct raw *thread = raw_start(raw_never_created, NULL);
	raw_join(thread);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_UNREGISTERED);
	raw_free(thread);
}

static void *pthread_life(void *argument)
{
	struct { rseq_rt_area area; } *slot = argument;
	CHECK_IS(rseq_rt_on_thread_create(&slot->area), 0);
	CHECK_IS(rseq_rt_thread_state(&slot->area), live);
	agrees_with_getcpu(&slot->area);
	CHECK_IS(rseq_rt_on_thread_exit(&slot->area, RSEQ_RT_KEEP), RSEQ_RT_KEPT);
	return argument;
}

void pthreads_keep(void)
{
	static rseq_rt_area areas[8];
	pthread_t threads[8];
	int round, i;
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 8; i++)
			CHECK_IS(pthread_create(&threads[i], NULL, pthread_life, &areas[i]), 0);
		for (i = 0; i < 8; i++) {
			CHECK_IS(pthread_join(threads[i], NULL), 0);
			CHECK_IS(rseq_rt_recycle(&areas[i]), 0);
		}
	}
}

static int raw_unmap_registered(struct raw *thread)
{
	int number = 0;
	rseq_rt_on_thread_create_masked(&thread->area);
	munmap(thread, 4096);
	/* From Linux 7.0 on the kernel writes when an id changes, rather than at every switch: so move. */
	while (sched_yield() == 0) {
		move_to_cpu(0, number);
		number = (number + 1) % CPUS;
	}
	return 1;
}

/* The reason for the release hook: the kernel kills a thread that unmaps its registered area. */
void unmap_while_registered_dies(void)
{
	int status = 0;
	pid_t child;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		alarm(20);
		raw_start(raw_unmap_registered, NULL);
		for (;;)
			pause();
	}
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status));
	CHECK_IS(WTERMSIG(status), SIGSEGV);
}
