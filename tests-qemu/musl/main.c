/*
 * Runs the tests and prints the runner's protocol: "@test NAME start", "@test NAME passed|failed|skipped", "@done
 * PASSED FAILED SKIPPED". As PID 1 of a kernel it continues with /shared, if present, and powers off.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

/* static or shared: the first half of the tests' names. */
#ifndef LINK
#define LINK "static"
#endif

enum { NATIVE, EMULATED, USER };

struct verdict {
	int failures, skipped;
	char text[400];
};

/* Constructors run before any test. */
static struct verdict early;
static struct verdict *verdict = &early;
static int scale = NATIVE;
const char *program;

static void say(const char *format, va_list list)
{
	vsnprintf(verdict->text, sizeof verdict->text, format, list);
}

void fail(const char *file, int line, const char *format, ...)
{
	char text[300];
	const char *name = strrchr(file, '/');
	va_list list;
	if (__atomic_fetch_add(&verdict->failures, 1, __ATOMIC_RELAXED) != 0)
		return;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	snprintf(verdict->text, sizeof verdict->text, "%s:%d: %s", name ? name + 1 : file, line, text);
}

void skip(const char *format, ...)
{
	va_list list;
	verdict->skipped = 1;
	va_start(list, format);
	say(format, list);
	va_end(list);
}

void tell(const char *format, ...)
{
	va_list list;
	if (verdict->failures || verdict->skipped)
		return;
	va_start(list, format);
	say(format, list);
	va_end(list);
}

int scaled(int native, int emulated, int user)
{
	return scale == NATIVE ? native : scale == EMULATED ? emulated : user;
}

void *shared(unsigned long size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		abort();
	return at;
}

int in_child(void (*run)(void))
{
	int status = -1;
	pid_t child = fork();
	if (child == 0) {
		run();
		_exit(DONE);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		fail(__FILE__, __LINE__, "no child: errno %d", errno);
	return status;
}

/* Waits for the test's process, with a limit. A negative status: it timed out. */
static int ending(pid_t child)
{
	time_t patience = time(NULL) + 360;
	struct timespec moment = { 0, 2000000 };
	int status;
	while (time(NULL) < patience) {
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
		nanosleep(&moment, NULL);
	}
	kill(-child, SIGKILL);
	waitpid(child, &status, 0);
	return -1;
}

static void run(const struct test *test)
{
	int status;
	pid_t child;
	memset(verdict, 0, sizeof *verdict);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		setpgid(0, 0);
		test->run();
		_exit(DONE);
	}
	status = child < 0 ? -1 : ending(child);
	if (status < 0)
		fail(__FILE__, __LINE__, "no end");
	else if (WIFSIGNALED(status))
		fail(__FILE__, __LINE__, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (status != DONE)
		fail(__FILE__, __LINE__, "exit code %d", WEXITSTATUS(status));
}

static void constructors(void)
{
	if (early.failures)
		fail(__FILE__, __LINE__, "%s", early.text);
	CHECK_IS(constructed, CONSTRUCTORS);
}

static const struct test own_tests[] = {
	{ "constructors", constructors },
	{ NULL, NULL },
};
static const struct test *const lists[] = {
	own_tests, everywhere_tests, exits_tests, halfway_tests, handlers_tests, malloc_tests, malloc_one_cpu_tests,
	malloc_storm_tests, off_tests, sandbox_tests, sealed_tests, spawn_tests, storm_tests,
};

static void power_off(void)
{
	fflush(stdout);
	/* The machine does not wait for unsent console output. */
	tcdrain(1);
	sync();
	reboot(RB_POWER_OFF);
}

int main(int count, char **arguments)
{
	const char *only = "";
	int passed = 0, failed = 0, skipped = 0, list = 0, i;
	const struct test *test;
	struct verdict *judged;
	for (i = 1; i < count; i++) {
		if (!strcmp(arguments[i], "--list"))
			list = 1;
		else if (!strcmp(arguments[i], "--executed"))
			return registered("main, executed"), early.failures;
		else if (!strcmp(arguments[i], "--off"))
			return off(), early.failures && dprintf(2, "%s\n", early.text);
		else if (!strcmp(arguments[i], "--killed"))
			return off_where_killed(arguments[0]);
		else if (!strcmp(arguments[i], "--secure"))
			return on_where_secure(), early.failures;
		else if (i + 2 < count && !strcmp(arguments[i], "--end"))
			return end_so(arguments[i + 1], atoi(arguments[i + 2]), &early.failures, early.text);
		else if (i + 1 == count)
			break;
		else if (!strcmp(arguments[i], "--only"))
			only = arguments[++i];
		else if (!strcmp(arguments[i], "--scale"))
			scale = arguments[++i][0] == 'e' ? EMULATED : arguments[i][0] == 'u' ? USER : NATIVE;
		else if (!strcmp(arguments[i], "--after"))
			sscanf(arguments[++i], "%d,%d,%d", &passed, &failed, &skipped);
	}
	program = scale == USER ? NULL : arguments[0];
	registered("main");
	judged = shared(sizeof *judged);
	verdict = judged;
	for (i = 0; i < (int)(sizeof lists / sizeof *lists); i++)
		for (test = lists[i]; test->name; test++) {
			if (!strstr(test->name, only))
				continue;
			if (list) {
				printf("@name " LINK "/%s\n", test->name);
				continue;
			}
			printf("@test " LINK "/%s start\n", test->name);
			run(test);
			if (judged->failures)
				printf("@test " LINK "/%s failed: %s\n", test->name, judged->text);
			else if (judged->skipped)
				printf("@test " LINK "/%s skipped: because %s\n", test->name, judged->text);
			else
				printf("@test " LINK "/%s passed %s\n", test->name, judged->text);
			*(judged->failures ? &failed : judged->skipped ? &skipped : &passed) += 1;
		}
	if (list)
		return 0;
	printf("@fact " LINK "_size %u\n", trio_now().size);
	fflush(stdout);
	if (getpid() == 1 && !strcmp(LINK, "static") && access("/shared", X_OK) == 0) {
		char counts[64], *words[] = { "/shared", "--scale", "emulated", "--only", (char *)only, "--after", counts, NULL };
		sprintf(counts, "%d,%d,%d", passed, failed, skipped);
		execv(words[0], words);
		printf("/shared is not executed: errno %d\n", errno);
	}
	printf("@done %d %d %d\n", passed, failed, skipped);
	if (getpid() == 1)
		power_off();
	return failed != 0;
}
