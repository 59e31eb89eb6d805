/* Lives and deaths of threads: the libc's own, and raw ones whose memory is theirs to unmap. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cpus.h"
#include "check.h"
#include "hooks.h"

static int raw_keep(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	/* The thread pointer is the parent's: under a libc's ownership, so is the area that it leads to. */
	if (owner == RSEQ_RT_OWNER_RUNTIME) {
		CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_REGISTERED);
		agrees_with_getcpu(&thread->area);
	}
	CHECK_IS(rseq_rt_on_thread_exit_keep_masked(&thread->area), 0);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_EXITING);
	CHECK_IS(rseq_rt_on_thread_exit_keep_masked(&thread->area), -ESRCH);
	CHECK_IS(rseq_rt_ensure_registered(&thread->area), RSEQ_RT_EXITING);
	return 7;
}

static int raw_release(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_exit_release_masked(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_exit_release_masked(&thread->area), -ESRCH);
	CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_EXITING);
	/* Back into a pool, and out of it again: on one thread, which is the hardest. */
	CHECK_IS(rseq_rt_recycle(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_create(&thread->area), 0);
	CHECK_IS(rseq_rt_on_thread_exit_release(&thread->area), 0);
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

/* Threads of this process, by the kernel's count. */
static int tasks(void)
{
	char line[128];
	int count = -1;
	FILE *status = fopen("/proc/self/status", "r");
	while (status && fgets(line, sizeof line, status))
		if (sscanf(line, "Threads: %d", &count) == 1)
			break;
	if (status)
		fclose(status);
	return count;
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
	CHECK_IS(rseq_rt_on_thread_exit_keep(&slot->area), 0);
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

/* From now on rseq(2) is refused to this thread, as by a sandbox that is entered late. */
static int refuse_rseq(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rseq, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int raw_refused(struct raw *thread)
{
	CHECK_IS(rseq_rt_on_thread_create_masked(&thread->area), 0);
	CHECK_IS(refuse_rseq(), 0);
	if (thread->argument) {
		CHECK_IS(rseq_rt_on_thread_exit_release_masked(&thread->area), -EPERM);
		return 7;
	}
	rseq_rt_unmap_and_exit(&thread->area, thread, RAW_SIZE);
}

/* The kernel goes on writing to the area: its memory must not go. */
void refused_release_leaks(void)
{
	int told;
	for (told = 0; told < 2; told++) {
		struct raw *thread = raw_start(raw_refused, told ? &told : NULL);
		raw_join(thread);
		CHECK_IS(thread->outcome, told ? 7 : 0);
		CHECK_IS(rseq_rt_thread_state(&thread->area), RSEQ_RT_EXITING);
		CHECK_IS(rseq_rt_recycle(&thread->area), 0);
		raw_free(thread);
	}
}

static int raw_unmap_registered(struct raw *thread)
{
	int number = 0;
	rseq_rt_on_thread_create_masked(&thread->area);
	munmap(thread, 4096);
	/* From Linux 7.0 the kernel writes when an id changes, and not at every switch: so move. */
	while (sched_yield() == 0) {
		move_to_cpu(0, number);
		number = (number + 1) % CPUS;
	}
	return 1;
}

/* What the release hook is for: the kernel kills who unmaps a registered area. */
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
