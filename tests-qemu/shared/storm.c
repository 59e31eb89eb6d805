/*
 * Detached threads that use a library and end, whose memory the libc unmaps or reuses: storm COUNT HOW
 *     use     ensure, read the CPU, end
 *     again   and ask again from a TSD destructor, in every round: in the last one after the library has let go
 *     ticks   as use; the timer's signal ensures too, and may come first
 *     zero    as use; a neighbour has deleted key 0, which is not his
 *     refused ensure, and enter a sandbox that refuses rseq(2) from then on
 *     late    ask for the first time from a TSD destructor in the last round
 * A timer's signal reads the CPU on any of these threads. The status is 1 if something was wrong.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "../capi/check.h"
#include "lib.h"
#include "rseq_rt.h"
#include "trap.h"

int failures;

extern const struct lib lib_a;

enum { USE, AGAIN, REFUSED, TICKS, ZERO, LATE };
/* Where the libc unmaps a thread's memory under it, the thread exits before that. */
#ifdef __GLIBC__
#define LAST_STATE RSEQ_RT_REGISTERED
#else
#define LAST_STATE RSEQ_RT_EXITING
#endif

static int how, started, begun, ended, registered, expected, hit, hit_registered;
static sigset_t ticks;
static pthread_key_t key;

static void tick(int number)
{
	(void)number;
	if (how == TICKS)
		lib_a.ensure();
	if (lib_a.cpu() < 0)
		abort();
	__atomic_add_fetch(&hit, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&hit_registered, lib_a.area() != NULL, __ATOMIC_RELAXED);
}

static void last_words(void *round)
{
	int state = RSEQ_RT_UNREGISTERED;
	intptr_t number = (intptr_t)round;
	if (how == AGAIN || number == PTHREAD_DESTRUCTOR_ITERATIONS)
		state = lib_a.ensure();
	CHECK(lib_a.cpu() >= 0);
	if (number < PTHREAD_DESTRUCTOR_ITERATIONS)
		CHECK_IS(pthread_setspecific(key, (void *)(number + 1)), 0);
	else if (how == AGAIN && expected == RSEQ_RT_REGISTERED)
		CHECK_IS(state, LAST_STATE);
	__atomic_add_fetch(&ended, number == PTHREAD_DESTRUCTOR_ITERATIONS, __ATOMIC_RELAXED);
}

static void *life(void *argument)
{
	/* A tick that found no thread waits for this: before the registration, and in the other half after it. */
	int after = __atomic_fetch_add(&begun, 1, __ATOMIC_RELAXED) & 1;
	if (!after)
		CHECK_IS(pthread_sigmask(SIG_UNBLOCK, &ticks, NULL), 0);
	if (how != LATE) {
		CHECK_IS(lib_a.ensure(), expected);
		__atomic_add_fetch(&registered, lib_a.area() != NULL, __ATOMIC_RELAXED);
	}
	if (after)
		CHECK_IS(pthread_sigmask(SIG_UNBLOCK, &ticks, NULL), 0);
	CHECK(lib_a.cpu() >= 0);
	if (how == REFUSED)
		refuse_rseq();
	if (how != AGAIN && how != LATE)
		__atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
	else
		CHECK_IS(pthread_setspecific(key, (void *)1), 0);
	return argument;
}

/* The kernel's count of threads in this process. */
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

int main(int count, char **words)
{
	static const char *const hows[] = { "use", "again", "refused", "ticks", "zero" };
	struct itimerval often = { { 0, 500 }, { 0, 500 } };
	struct sigaction action;
	pthread_attr_t detached;
	int wanted = count > 1 ? atoi(words[1]) : 0;
	if (wanted < 1 || count != 3)
		return 2;
	for (how = USE; how < LATE && strcmp(words[2], hows[how]) != 0; how++)
		;
	expected = lib_a.ensure();
	if (how == ZERO)
		(void)pthread_key_delete(0);
	/* Created after the library's, so that it comes later in every round. */
	pthread_key_create(&key, last_words);
	memset(&action, 0, sizeof action);
	action.sa_handler = tick;
	action.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &action, NULL);
	/* Not on this thread, which Linux tries first. */
	sigemptyset(&ticks);
	sigaddset(&ticks, SIGALRM);
	CHECK_IS(pthread_sigmask(SIG_BLOCK, &ticks, NULL), 0);
	setitimer(ITIMER_REAL, &often, NULL);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	while (started < wanted) {
		pthread_t thread;
		if (started - __atomic_load_n(&ended, __ATOMIC_RELAXED) < 16 &&
		    pthread_create(&thread, &detached, life, NULL) == 0)
			started++;
		else
			sched_yield();
	}
	while (tasks() > 1)
		usleep(1000);
	CHECK_IS(ended, wanted);
	if (how != LATE)
		CHECK_IS(registered, expected == RSEQ_RT_UNAVAILABLE ? 0 : wanted);
	CHECK(hit > 0);
	if (how != LATE)
		CHECK_IS(hit_registered > 0, expected != RSEQ_RT_UNAVAILABLE);
	printf("%d threads, %d registered, state %d, %d ticks, %d of them registered\n", ended, registered, expected, hit, hit_registered);
	return failures != 0;
}
