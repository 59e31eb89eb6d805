/*
 * The reference for the tests of `cargo xtask doctor`.
 *
 *     ask                 the answer to a registration of 32 bytes, an errno or 0, and glibc's __rseq_size
 *     refuse ERRNO P ...  runs P with a filter that answers rseq(2) with ERRNO; 0 kills instead
 *     wait                once a second thread runs, a line with glibc's registration, then nothing until stdin ends
 *     own                 the same with a registration of the main thread's own
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../capi/filter.h"
#include "../../include/rseq_rt.h"

/* Absent before glibc 2.35. */
extern const ptrdiff_t __rseq_offset __attribute__((__weak__));
extern const unsigned int __rseq_size __attribute__((__weak__));

static unsigned glibc_size(void)
{
	return &__rseq_size ? __rseq_size : 0;
}

static int ask(void)
{
	static rseq_rt_area area = RSEQ_RT_AREA_INIT;
	long answer = syscall(SYS_rseq, &area, 32, 0, RSEQ_RT_SIG);
	printf("%d %u\n", answer ? errno : 0, glibc_size());
	return 0;
}

static int refuse(char **arguments)
{
	int error = atoi(arguments[0]);
	if (filter_call(SYS_rseq, error ? REFUSE(error) : SECCOMP_RET_KILL_PROCESS))
		return 1;
	execv(arguments[1], arguments + 1);
	return 1;
}

/* glibc registers a new thread in that thread, after pthread_create has returned: it is registered once this runs. */
static void *pauses(void *runs)
{
	pthread_barrier_wait(runs);
	while (pause())
		;
	return NULL;
}

static int live(void *place)
{
	pthread_t second;
	pthread_barrier_t runs;
	char byte;
	/* Yama allows only a parent to trace. */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	if (pthread_barrier_init(&runs, NULL, 2) || pthread_create(&second, NULL, pauses, &runs))
		return 1;
	pthread_barrier_wait(&runs);
	printf("%#lx %#010x\n", (unsigned long)(uintptr_t)place, RSEQ_RT_SIG);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

static void *glibc_area(void)
{
	return glibc_size() ? (char *)__builtin_thread_pointer() + __rseq_offset : NULL;
}

/* NULL if the kernel refuses it. */
static void *own_area(void)
{
	static rseq_rt_area area = RSEQ_RT_AREA_INIT;
	return syscall(SYS_rseq, &area, 32, 0, RSEQ_RT_SIG) ? NULL : &area;
}

int main(int count, char **arguments)
{
	if (count == 2 && !strcmp(arguments[1], "ask"))
		return ask();
	if (count > 3 && !strcmp(arguments[1], "refuse"))
		return refuse(arguments + 2);
	if (count == 2 && !strcmp(arguments[1], "wait"))
		return live(glibc_area());
	if (count == 2 && !strcmp(arguments[1], "own"))
		return live(own_area());
	return 1;
}
