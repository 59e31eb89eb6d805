/*
 * A timer that notifies by a thread, and queries rseq each time: timer registered|libc, the expected state. musl has
 * one thread for all notifications: between them it runs destructors, and writes the initial TLS over the area.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../capi/check.h"
#include "lib.h"
#include "rseq_rt.h"
#include "trap.h"

int failures;

extern const struct lib lib_a;

enum { NOTIFICATIONS = 20 };
static int expected, notified;

static void notify(union sigval nothing)
{
	int theirs = expected == RSEQ_RT_REGISTERED_BY_LIBC;
	(void)nothing;
	CHECK_IS(kernel_has_none(), !theirs);
	CHECK_IS(lib_a.state(), RSEQ_RT_UNREGISTERED);
	CHECK_IS(lib_a.ensure(), expected);
	CHECK_IS(kernel_has_none(), 0);
	on_every_cpu(lib_a.cpu);
	__atomic_add_fetch(&notified, 1, __ATOMIC_RELAXED);
}

int main(int count, char **words)
{
	struct itimerspec often = { { 0, 2000000 }, { 0, 2000000 } };
	struct sigevent event;
	timer_t timer;
	int waits;
	if (count != 2)
		return 2;
	expected = strcmp(words[1], "libc") == 0 ? RSEQ_RT_REGISTERED_BY_LIBC : RSEQ_RT_REGISTERED;
	memset(&event, 0, sizeof event);
	event.sigev_notify = SIGEV_THREAD;
	event.sigev_notify_function = notify;
	CHECK_IS(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	CHECK_IS(timer_settime(timer, 0, &often, NULL), 0);
	for (waits = 0; waits < 10000 && __atomic_load_n(&notified, __ATOMIC_RELAXED) < NOTIFICATIONS; waits++)
		usleep(1000);
	CHECK_IS(timer_delete(timer), 0);
	CHECK(__atomic_load_n(&notified, __ATOMIC_RELAXED) >= NOTIFICATIONS);
	/* Lets it finish. */
	usleep(100000);
	return failures != 0;
}
