/*
 * libc.c - the effect of rseq on a libc's users: sched_getcpu, create+join, create+detach.
 *
 *     libc cpu | threads
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#include "line.h"

#include <pthread.h>
#include <string.h>

static unsigned long has_run;

static void number(unsigned long turns)
{
	for (turns = (turns + 7) / 8; turns--;)
		EIGHT_TIMES(keep(sched_getcpu()));
}

static void *nothing(void *argument)
{
	return argument;
}

static void join(unsigned long turns)
{
	pthread_t thread;

	while (turns--)
		if (pthread_create(&thread, 0, nothing, 0) || pthread_join(thread, 0))
			abort();
}

static void *count(void *argument)
{
	__atomic_add_fetch(&has_run, 1, __ATOMIC_RELEASE);
	return argument;
}

static void detach(unsigned long turns)
{
	static unsigned long started;
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	while (turns--) {
		/* An exiting thread still holds its stack: on one CPU there is at most one. */
		if (pthread_create(&thread, &attributes, count, 0))
			abort();
		started++;
		while (__atomic_load_n(&has_run, __ATOMIC_ACQUIRE) != started)
			sched_yield();
	}
	pthread_attr_destroy(&attributes);
}

int main(int count_of, char **words)
{
	const char *group = count_of > 1 ? words[1] : "";

	pin();
	if (!strcmp(group, "cpu")) {
		tell("CPU number", number, "sched_getcpu(3), linked statically");
	} else if (!strcmp(group, "threads")) {
		tell("create+join", join, "pthread_create and pthread_join, on one CPU");
		tell("create+detach", detach,
		     "pthread_create detached, until it has run; its exit falls into the next turn; one CPU");
	} else {
		return 2;
	}
	return 0;
}
