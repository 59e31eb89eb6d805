/* The libc's switch for sandboxes that kill for rseq(2): this program, executed anew in another environment. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#include "filter.h"
#include "rseq.h"
#include "test.h"

#define SWITCH "MUSL_RSEQ"
#define OTHER_USER 65534
#define NO_FILTER 77

static void *life(void *argument)
{
	refused("a thread that is switched off");
	return argument;
}

static int c11_life(void *argument)
{
	life(argument);
	return 3;
}

int off(void)
{
	pthread_attr_t detached;
	pthread_t thread;
	thrd_t other;
	pid_t child;
	int i, result = 0;
	refused("main, switched off");
	CHECK_IS(trio_now().size, 0);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	for (i = 0; i < 20; i++) {
		CHECK_IS(pthread_create(&thread, &detached, life, NULL), 0);
		CHECK_IS(pthread_create(&thread, NULL, life, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
		CHECK_IS(thrd_create(&other, c11_life, NULL), thrd_success);
		CHECK_IS(thrd_join(other, &result), thrd_success);
		CHECK_IS(result, 3);
	}
	child = vfork();
	if (child == 0)
		_exit(5);
	CHECK_IS(waitpid(child, &result, 0), child);
	CHECK_IS(WEXITSTATUS(result), 5);
	return DONE;
}

int off_where_killed(char *self)
{
	char *words[] = { self, "--off", NULL };
	if (filter_rseq(KILL_PROCESS, THIS_THREAD) != 0)
		return NO_FILTER;
	execv(self, words);
	return 127;
}

int on_where_secure(void)
{
	CHECK(getauxval(AT_SECURE) != 0);
	registered("main, secure");
	return DONE;
}

/* The status of the program, executed in that way with or without that switch. */
static int executed(const char *way, const char *value, int quiet)
{
	int status = -1;
	pid_t child = fork();
	if (child == 0) {
		if (value)
			setenv(SWITCH, value, 1);
		else
			unsetenv(SWITCH);
		if (quiet)
			setenv(QUIET, "", 1);
		if (!strcmp(way, "--secure") && setresuid(OTHER_USER, 0, 0) != 0)
			_exit(127);
		execl(program, program, way, NULL);
		_exit(127);
	}
	CHECK_IS(waitpid(child, &status, 0), child);
	return status;
}

static int impossible(void)
{
	if (!program)
		skip("the emulator cannot execute this program");
	else if (!kernel_has_rseq())
		skip("there is no rseq(2) here");
	else
		return 0;
	return 1;
}

static void switched_off(void)
{
	static const char *const others[] = { NULL, "", "1", "00", "off" };
	size_t i;
	if (impossible())
		return;
	CHECK_IS(executed("--off", "0", 1), DONE);
	for (i = 0; i < sizeof others / sizeof *others; i++)
		CHECK_IS(executed("--executed", others[i], 0), DONE);
}

static void switched_off_where_rseq_kills(void)
{
	int status;
	if (impossible())
		return;
	status = executed("--killed", "0", 1);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FILTER) {
		skip("seccomp takes no filter");
		return;
	}
	CHECK_IS(status, DONE);
	/* The filter is effective: without the switch the program does not start. */
	status = executed("--killed", NULL, 1);
	CHECK(WIFSIGNALED(status));
	CHECK_IS(WTERMSIG(status), SIGSYS);
}

static void no_switch_where_secure(void)
{
	if (impossible())
		return;
	if (geteuid() != 0) {
		skip("only root can be two users at once");
		return;
	}
	CHECK_IS(executed("--secure", "0", 0), DONE);
}

const struct test off_tests[] = {
	{ "switched_off", switched_off },
	{ "switched_off_where_rseq_kills", switched_off_where_rseq_kills },
	{ "no_switch_where_secure", no_switch_where_secure },
	{ NULL, NULL },
};
