/*
 * A thread forks while another one prepares the process: forks registered|libc, what the child is to have.
 * The thread that prepares is not in the child, and its work is not done there.
 */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../capi/check.h"
#include "lib.h"
#include "rseq_rt.h"

int failures;

extern const struct lib lib_a;
extern void (*at_halfway)(void);

static pthread_barrier_t begun, done;
static int expected, stops;

static void stop(void)
{
	if (stops++ != 0)
		return;
	pthread_barrier_wait(&begun);
	pthread_barrier_wait(&done);
}

static void *child_thread(void *argument)
{
	CHECK_IS(lib_a.ensure(), expected);
	return argument;
}

static void in_the_child(void)
{
	pthread_t thread;
	CHECK_IS(lib_a.ensure(), expected);
	CHECK(lib_a.area() != NULL);
	CHECK_IS(pthread_create(&thread, NULL, child_thread, NULL), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
	_exit(failures != 0);
}

static void *forker(void *argument)
{
	int status = -1;
	pid_t child;
	pthread_barrier_wait(&begun);
	/* Here the other one still is at it. */
	CHECK_IS(lib_a.ensure(), RSEQ_RT_UNREGISTERED);
	child = fork();
	if (child == 0)
		in_the_child();
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
	pthread_barrier_wait(&done);
	return argument;
}

int main(int count, char **words)
{
	pthread_t thread;
	if (count != 2)
		return 2;
	expected = strcmp(words[1], "libc") == 0 ? RSEQ_RT_REGISTERED_BY_LIBC : RSEQ_RT_REGISTERED;
	pthread_barrier_init(&begun, NULL, 2);
	pthread_barrier_init(&done, NULL, 2);
	at_halfway = stop;
	CHECK_IS(pthread_create(&thread, NULL, forker, NULL), 0);
	CHECK_IS(lib_a.ensure(), expected);
	CHECK_IS(pthread_join(thread, NULL), 0);
	return failures != 0;
}
