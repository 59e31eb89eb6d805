/*
 * The hooks from C, under a glibc whose own registration is off ("runtime") or on ("libc").
 * Each test prints its name and verdict; the status is 1 if one failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "raw.h"

int failures;

#define ROUNDS 200

static rseq_rt_area main_area = RSEQ_RT_AREA_INIT;
static int owner, live;

static void layout_agrees(void)
{
	static const unsigned expected[RSEQ_RT_LAYOUT_COUNT] = RSEQ_RT_LAYOUT;
	CHECK_IS(memcmp(expected, rseq_rt_layout, sizeof expected), 0);
}

/* The kernel lays auxv above the environment, which is the way a libc's start finds it. */
static const unsigned long *auxv(void)
{
	char **next = environ;
	while (*next++)
		;
	return (const unsigned long *)next;
}

static void before_init(void)
{
	rseq_rt_area area = RSEQ_RT_AREA_INIT;
	CHECK_IS(rseq_rt_owner(), RSEQ_RT_OWNER_UNDECIDED);
	CHECK_IS(rseq_rt_on_thread_create(&area), -EINVAL);
	CHECK_IS(rseq_rt_ensure_registered(&area), -EINVAL);
	CHECK_IS(rseq_rt_thread_state(&area), RSEQ_RT_UNREGISTERED);
	CHECK_IS(rseq_rt_init_flags(NULL, 0x80000000u), -EINVAL);
	CHECK_IS(rseq_rt_init((const unsigned long *)((const char *)auxv() + 1)), -EINVAL);
}

static void init_and_main_thread(void)
{
	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_init(auxv()), -EALREADY);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), 0);
	CHECK_IS(rseq_rt_on_thread_create(&main_area), -EALREADY);
	CHECK_IS(rseq_rt_owner(), owner);
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
	CHECK_IS(rseq_rt_ensure_registered(&main_area), live);
	CHECK_IS(rseq_rt_thread_errno(&main_area), 0);
	CHECK(rseq_rt_feature_size() >= 20);
	CHECK_IS(rseq_rt_length() >= 32, owner == RSEQ_RT_OWNER_RUNTIME);
}

/* Every function with every pointer that is none, and with areas out of order. */
static void bad_input(void)
{
	static int (*const functions[])(rseq_rt_area *) = {
		rseq_rt_on_thread_create, rseq_rt_on_thread_create_masked, rseq_rt_ensure_registered,
		rseq_rt_on_thread_exit_keep, rseq_rt_on_thread_exit_keep_masked, rseq_rt_on_thread_exit_release,
		rseq_rt_on_thread_exit_release_masked, rseq_rt_recycle, rseq_rt_vfork_begin,
	};
	static int (*const readers[])(const rseq_rt_area *) = {
		rseq_rt_thread_state, rseq_rt_thread_errno, rseq_rt_cpu, rseq_rt_node, rseq_rt_mm_cid,
	};
	static rseq_rt_area two[2], zero;
	struct rseq_rt_at_exit callbacks = RSEQ_RT_AT_EXIT_INIT;
	size_t i, off;
	for (i = 0; i < sizeof functions / sizeof *functions; i++) {
		CHECK_IS(functions[i](NULL), -EFAULT);
		for (off = 1; off < 64; off++)
			CHECK_IS(functions[i]((rseq_rt_area *)((char *)two + off)), -EINVAL);
	}
	for (i = 0; i < sizeof readers / sizeof *readers; i++) {
		CHECK_IS(readers[i](NULL), -EFAULT);
		for (off = 1; off < 64; off++)
			CHECK_IS(readers[i]((rseq_rt_area *)((char *)two + off)), -EINVAL);
	}
	/* Never created. */
	for (i = 3; i < 7; i++)
		CHECK_IS(functions[i](&two[0]), -EINVAL);
	CHECK_IS(rseq_rt_vfork_begin(&two[0]), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(&two[0], 0), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(NULL, 0), -EFAULT);
	CHECK_IS(memcmp(two, &zero, sizeof zero), 0);
	CHECK_IS(memcmp(two + 1, &zero, sizeof zero), 0);
	/* Bytes that nobody of us wrote are touched by nobody. */
	memset(&two[1], 0xff, sizeof two[1]);
	CHECK(rseq_rt_on_thread_create(&two[1]) < 0);
	CHECK(rseq_rt_on_thread_exit_release(&two[1]) < 0);
	for (i = 0; i < sizeof zero; i++)
		CHECK_IS(two[1].rseq_rt_opaque[i], 0xff);
	/* A live one is not recycled. */
	if (owner == RSEQ_RT_OWNER_RUNTIME)
		CHECK_IS(rseq_rt_recycle(&main_area), -EBUSY);
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
	CHECK_IS(rseq_rt_at_exit_push(NULL, NULL, NULL), -EFAULT);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, NULL, NULL), -EFAULT);
	CHECK_IS(rseq_rt_at_exit_run(NULL), -EFAULT);
	CHECK_IS(rseq_rt_at_exit_run((struct rseq_rt_at_exit *)((char *)&callbacks + 4)), -EINVAL);
}

static void agrees_with_getcpu(rseq_rt_area *area)
{
	cpu_set_t all, one;
	int number;
	sched_getaffinity(0, sizeof all, &all);
	for (number = 0; number < CPU_SETSIZE; number++) {
		unsigned cpu, node;
		if (!CPU_ISSET(number, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(number, &one);
		CHECK_IS(sched_setaffinity(0, sizeof one, &one), 0);
		syscall(SYS_getcpu, &cpu, &node, NULL);
		CHECK_IS(cpu, number);
		CHECK_IS(rseq_rt_cpu(area), cpu);
		CHECK_IS(rseq_rt_node(area), node);
		CHECK_IS(rseq_rt_mm_cid(area) >= 0, rseq_rt_feature_size() >= 28);
	}
	sched_setaffinity(0, sizeof all, &all);
}

static void cpu_after_moves(void)
{
	agrees_with_getcpu(&main_area);
}

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

static void raw_threads_keep(void)
{
	joined(raw_keep);
}

static void raw_threads_release(void)
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

static void raw_threads_unmap_themselves(void)
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

static void unmap_without_proof_leaks(void)
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

static void pthreads_keep(void)
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

static void vfork_once(void)
{
	int token = rseq_rt_vfork_begin(&main_area), status;
	pid_t child;
	CHECK(token >= 0);
	CHECK_IS(rseq_rt_vfork_begin(&main_area), -EBUSY);
	child = vfork();
	if (child == 0) {
		rseq_rt_ensure_registered(&main_area);
		_exit(rseq_rt_thread_state(&main_area) == RSEQ_RT_LENT && rseq_rt_cpu(&main_area) >= 0 ? 0 : 1);
	}
	CHECK_IS(rseq_rt_thread_state(&main_area), RSEQ_RT_LENT);
	CHECK_IS(rseq_rt_vfork_end(&main_area, token ^ 1), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(&main_area, -1), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(&main_area, 1 << 20), -EINVAL);
	CHECK_IS(rseq_rt_vfork_end(&main_area, token), 0);
	CHECK_IS(rseq_rt_vfork_end(&main_area, token), -EINVAL);
	CHECK_IS(rseq_rt_thread_state(&main_area), live);
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
}

static void vfork_loop(void)
{
	int i;
	for (i = 0; i < ROUNDS; i++)
		vfork_once();
	agrees_with_getcpu(&main_area);
}

static struct rseq_rt_at_exit callbacks = RSEQ_RT_AT_EXIT_INIT;
static char order[16];

static void note(void *letter)
{
	order[strlen(order)] = *(char *)letter;
	if (*(char *)letter == 'h')
		CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, (void *)"x"), 0);
}

static void at_exit_order(void)
{
	static char letters[] = "abcdefgh";
	int i;
	for (i = 0; i < RSEQ_RT_AT_EXIT_CAPACITY; i++)
		CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, letters + i), 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, letters), -ENOMEM);
	CHECK_IS(rseq_rt_at_exit_run(&callbacks), 0);
	CHECK_IS(strcmp(order, "hxgfedcba"), 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, note, letters), -ESRCH);
	CHECK_IS(rseq_rt_at_exit_run(&callbacks), 0);
	CHECK_IS(strlen(order), 9);
}

static int raw_unmap_registered(struct raw *thread)
{
	rseq_rt_on_thread_create_masked(&thread->area);
	munmap(thread, 4096);
	while (sched_yield() == 0)
		;
	return 1;
}

/* What the release hook is for: the kernel kills who unmaps a registered area. */
static void unmap_while_registered_dies(void)
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

static void main_thread_leaves(void)
{
	CHECK_IS(rseq_rt_on_thread_exit_release(&main_area), 0);
	CHECK_IS(rseq_rt_thread_state(&main_area), RSEQ_RT_EXITING);
	CHECK(rseq_rt_cpu(&main_area) >= 0);
}

int main(int count, char **arguments)
{
	int libc = count == 2 && strcmp(arguments[1], "libc") == 0;
	owner = libc ? RSEQ_RT_OWNER_LIBC : RSEQ_RT_OWNER_RUNTIME;
	live = libc ? RSEQ_RT_REGISTERED_BY_LIBC : RSEQ_RT_REGISTERED;
	RUN(layout_agrees);
	RUN(before_init);
	RUN(init_and_main_thread);
	RUN(bad_input);
	RUN(cpu_after_moves);
	RUN(raw_threads_keep);
	RUN(raw_threads_release);
	RUN(raw_threads_unmap_themselves);
	RUN(unmap_without_proof_leaks);
	RUN(pthreads_keep);
	RUN(vfork_loop);
	RUN(at_exit_order);
	if (!libc)
		RUN(unmap_while_registered_dies);
	RUN(main_thread_leaves);
	return failures != 0;
}
