/*
 * A program to run under tools: each hook, and sections that count. It exits with 0 if every sum is right.
 *
 *     raw         one more thread, that unmaps its own stack
 *     profile     SIGPROF all the while, whose handler counts too
 *     pause FILE  pauses in the middle until FILE exists
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rseq_rt.h>
#include <rseq_rt_percpu.h>
#include <rseq_rt_structures.h>

#include "../capi/raw.h"

enum { THREADS = 3, COUNTS = 20000, SIGNALS = 10 };

/* The descriptors of all sections in this file, for a debugger. */
extern const struct section {
	unsigned version, flags;
	unsigned long long start, length, abort;
} __start___rseq_cs[], __stop___rseq_cs[];
const struct section *const first_section = __start___rseq_cs, *const last_section = __stop___rseq_cs;

static rseq_rt_area main_area = RSEQ_RT_AREA_INIT;
static struct rseq_rt_counter counter;
static struct rseq_rt_slots slots;
static struct slot {
	unsigned long count;
} __attribute__((__aligned__(128))) *words;
static unsigned long without, in_handlers, raw_threads;
static size_t cpus;

static __thread rseq_rt_area *own;

static void is(int right, const char *what)
{
	if (right)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

static void *lines(size_t size)
{
	void *storage = NULL;
	is(posix_memalign(&storage, 128, size * cpus) == 0, "memory");
	return memset(storage, 0, size * cpus);
}

/* For breakpoints: one section in the program itself, and one in the library. */
static __attribute__((__noinline__)) void count_one(const rseq_rt_area *area)
{
	if (rseq_rt_percpu_add(rseq_rt_current(area), slots, offsetof(struct slot, count), 1))
		__atomic_add_fetch(&without, 1, __ATOMIC_RELAXED);
	rseq_rt_counter_add(&counter, area, 1);
}

static void profiled(int signal)
{
	(void)signal;
	if (!own)
		return;
	count_one(own);
	__atomic_add_fetch(&in_handlers, 1, __ATOMIC_RELAXED);
}

static int profile;

static void work(const rseq_rt_area *area)
{
	int i;
	for (i = 0; i < COUNTS; i++)
		count_one(area);
}

static void lends(rseq_rt_area *area)
{
	int status = -1, token = rseq_rt_vfork_begin(area);
	pid_t child = vfork();
	if (child == 0)
		_exit(rseq_rt_cpu(area) < 0);
	is(child > 0 && waitpid(child, &status, 0) == child && status == 0, "the vfork child");
	is(rseq_rt_vfork_end(area, token) == 0, "the end of a loan");
}

static unsigned long callbacks_run;

static void callback(void *argument)
{
	count_one(argument);
	__atomic_add_fetch(&callbacks_run, 1, __ATOMIC_RELAXED);
}

static void *lives(void *nth)
{
	rseq_rt_area area = RSEQ_RT_AREA_INIT;
	struct rseq_rt_at_exit callbacks = RSEQ_RT_AT_EXIT_INIT;
	sigset_t all, before;
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	if ((long)nth == 0) {
		is(rseq_rt_on_thread_create(&area) == 0, "create");
	} else if ((long)nth == 1) {
		pthread_sigmask(SIG_BLOCK, &all, &before);
		is(rseq_rt_on_thread_create_masked(&area) == 0, "create, masked");
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	} else {
		is(rseq_rt_ensure_registered(&area) >= 0, "lazily");
	}
	is(rseq_rt_cpu(&area) >= 0 && rseq_rt_node(&area) >= 0, "where it runs");
	own = &area;
	work(&area);
	lends(&area);
	is(rseq_rt_at_exit_push(&callbacks, callback, &area) == 0, "a callback");
	is(rseq_rt_at_exit_run(&callbacks) == 0, "the callbacks");
	own = NULL;
	pthread_sigmask(SIG_BLOCK, &all, &before);
	is(rseq_rt_on_thread_exit_masked(&area, RSEQ_RT_RELEASE) == RSEQ_RT_RELEASED, "release, masked");
	is(rseq_rt_recycle(&area) == 0, "recycled");
	/* On the same memory, and by the hook that blocks the signals itself. */
	is(rseq_rt_on_thread_create(&area) == 0, "created again");
	is(rseq_rt_on_thread_exit(&area, RSEQ_RT_RELEASE) == RSEQ_RT_RELEASED, "release");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return nth;
}

static int unmaps_itself(struct raw *thread)
{
	rseq_rt_on_thread_create_masked(&thread->area);
	count_one(&thread->area);
	__atomic_store_n(&raw_threads, 1, __ATOMIC_RELEASE);
	rseq_rt_unmap_and_exit(&thread->area, thread, RAW_SIZE);
}

int main(int count, char **arguments)
{
	unsigned long auxv[] = { 27, getauxval(27), 28, getauxval(28), 0, 0 }, sum, expected;
	const char *how = count > 1 ? arguments[1] : "";
	struct itimerval fast = { { 0, 1000 }, { 0, 1000 } };
	pthread_t threads[THREADS];
	char report[512];
	size_t i;
	cpus = rseq_rt_cpu_bound();
	is(rseq_rt_init(auxv) == 0, "init");
	words = lines(sizeof *words);
	is(rseq_rt_slots_init(&slots, words, sizeof *words, cpus) == 0, "the slots");
	is(rseq_rt_counter_init(&counter, lines(RSEQ_RT_LINE), cpus) == 0, "the counter");
	rseq_rt_allow_sections();
	is(rseq_rt_on_thread_create(&main_area) == 0, "the main thread");
	own = &main_area;
	profile = strcmp(how, "profile") == 0;
	if (profile) {
		is(signal(SIGPROF, profiled) != SIG_ERR && setitimer(ITIMER_PROF, &fast, NULL) == 0, "the timer");
		/* It counts this process's time, so that the signal comes. */
		for (expected = 0; __atomic_load_n(&in_handlers, __ATOMIC_RELAXED) < SIGNALS; expected++)
			count_one(&main_area);
	} else {
		expected = COUNTS;
		work(&main_area);
	}
	for (i = 0; i < THREADS; i++)
		is(pthread_create(&threads[i], NULL, lives, (void *)i) == 0, "a thread");
	if (count > 2 && strcmp(how, "pause") == 0) {
		printf("paused\n");
		fflush(stdout);
		while (access(arguments[2], F_OK) != 0)
			usleep(1000);
	}
	for (i = 0; i < THREADS; i++)
		is(pthread_join(threads[i], NULL) == 0, "its end");
	if (strcmp(how, "raw") == 0) {
		raw_start(unmaps_itself, NULL);
		/* The last thread in the kernel's count, since it has no word to wait for. */
		while (tasks() > 1)
			usleep(1000);
	}
	if (profile)
		setitimer(ITIMER_PROF, &(struct itimerval){ { 0, 0 }, { 0, 0 } }, NULL);
	expected += (unsigned long)THREADS * COUNTS + callbacks_run + in_handlers + raw_threads;
	for (sum = without, i = 0; i < cpus; i++)
		sum += words[i].count;
	printf("%lu counted, %lu of them without a slot, %lu in handlers\n", sum, without, in_handlers);
	is(callbacks_run == THREADS, "the callbacks");
	is(sum == expected && rseq_rt_counter_sum(&counter) == expected, "the sums");
	rseq_rt_report(&main_area, report, sizeof report);
	printf("%sright\n", report);
	return 0;
}
