/*
 * Ends of processes: exit from any thread, the last thread, and the code that runs then. Each is a separate program,
 * executed anew: in a fork child musl 1.2.3 has lost the main thread's clear-tid, so that the end of that thread alone
 * blocks everything, with or without rseq.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

static int told_to = -1;
static const int *failures;
static const char *text;

/* One letter for each function that ran. */
static void told(char letter)
{
	if (write(told_to, &letter, 1) != 1)
		abort();
}

static void *life(void *argument)
{
	registered("a thread made at the end");
	told('t');
	return argument;
}

static void make(void)
{
	pthread_t thread;
	CHECK_IS(pthread_create(&thread, NULL, life, NULL), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
}

/* The program's destructor, which runs after the handlers. */
__attribute__((__destructor__)) static void destructor(void)
{
	if (told_to < 0)
		return;
	registered("a destructor");
	make();
	told('d');
	if (*failures)
		dprintf(told_to, " %s", text);
}

static void handler(void)
{
	registered("an atexit handler");
	make();
	told('h');
}

static void *exits(void *argument)
{
	(void)argument;
	exit(DONE);
}

static pthread_t main_thread;

static void *last(void *argument)
{
	/* A main thread that has exited can still be joined. */
	CHECK_IS(pthread_join(main_thread, NULL), 0);
	return life(argument);
}

int end_so(const char *way, int to, const int *failed, const char *said)
{
	pthread_t thread;
	told_to = to;
	failures = failed;
	text = said;
	registered("main");
	CHECK_IS(atexit(handler), 0);
	CHECK_IS(atexit(handler), 0);
	main_thread = pthread_self();
	if (!strcmp(way, "main"))
		return DONE;
	if (!strcmp(way, "thread")) {
		CHECK_IS(pthread_create(&thread, NULL, exits, NULL), 0);
		for (;;)
			pause();
	}
	if (strcmp(way, "alone"))
		CHECK_IS(pthread_create(&thread, NULL, last, NULL), 0);
	if (!strcmp(way, "detached"))
		CHECK_IS(pthread_detach(thread), 0);
	pthread_exit(NULL);
}

/* Both handlers and the destructor run, each creates a thread, and the status is that of exit(0). */
static void ends(const char *way, const char *expected)
{
	char said[300] = "";
	size_t length = 0;
	ssize_t more;
	int ends[2], status = -1;
	pid_t child;
	if (!program) {
		skip("the emulator cannot execute this program");
		return;
	}
	CHECK_IS(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		char number[16];
		sprintf(number, "%d", ends[1]);
		execl(program, program, "--end", way, number, NULL);
		_exit(127);
	}
	close(ends[1]);
	while ((more = read(ends[0], said + length, sizeof said - 1 - length)) > 0)
		length += more;
	CHECK_IS(waitpid(child, &status, 0), child);
	if (strcmp(said, expected) != 0)
		fail(__FILE__, __LINE__, "it told \"%s\", not \"%s\"", said, expected);
	CHECK_IS(status, DONE);
}

static void main_returns(void)
{
	ends("main", "ththtd");
}

static void a_thread_exits(void)
{
	ends("thread", "ththtd");
}

static void last_thread_is_main(void)
{
	ends("alone", "ththtd");
}

static void last_thread_is_joinable(void)
{
	ends("joinable", "tththtd");
}

static void last_thread_is_detached(void)
{
	ends("detached", "tththtd");
}

const struct test exits_tests[] = {
	{ "main_returns", main_returns },
	{ "a_thread_exits", a_thread_exits },
	{ "last_thread_is_main", last_thread_is_main },
	{ "last_thread_is_joinable", last_thread_is_joinable },
	{ "last_thread_is_detached", last_thread_is_detached },
	{ NULL, NULL },
};
