/* How processes end: exit from any thread, the last thread, and what runs then. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

/* Shared with the child that ends. */
static struct seen { int destructors, handlers, threads; } *seen;

static void *life(void *argument)
{
	registered("a thread made at the end");
	__atomic_add_fetch(&seen->threads, 1, __ATOMIC_RELAXED);
	return argument;
}

static void make(void)
{
	pthread_t thread;
	CHECK_IS(pthread_create(&thread, NULL, life, NULL), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
}

/* Of the program: it runs after the handlers. */
__attribute__((__destructor__)) static void destructor(void)
{
	if (!seen)
		return;
	registered("a destructor");
	make();
	seen->destructors++;
}

static void handler(void)
{
	registered("an atexit handler");
	make();
	seen->handlers++;
}

static void at_exit(void)
{
	seen = shared(sizeof *seen);
	CHECK_IS(atexit(handler), 0);
	CHECK_IS(atexit(handler), 0);
}

/* Both handlers and the destructor ran, and each made its thread. */
static void all_ran(void (*end)(void), int threads)
{
	at_exit();
	CHECK_IS(in_child(end), DONE);
	CHECK_IS(seen->handlers, 2);
	CHECK_IS(seen->destructors, 1);
	CHECK_IS(seen->threads, 3 + threads);
	_exit(DONE);
}

static void end_by_exit(void)
{
	exit(DONE);
}

static void exit_in_main(void)
{
	all_ran(end_by_exit, 0);
}

static void *exits(void *argument)
{
	(void)argument;
	exit(DONE);
}

static void end_by_thread(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, exits, NULL);
	for (;;)
		pause();
}

static void exit_in_a_thread(void)
{
	all_ran(end_by_thread, 0);
}

static pthread_t last_of_main;

static void *last(void *argument)
{
	/* A main thread that has left can still be joined. */
	CHECK_IS(pthread_join(last_of_main, NULL), 0);
	return life(argument);
}

static void end_by_last(int detached)
{
	pthread_t thread;
	last_of_main = pthread_self();
	CHECK_IS(pthread_create(&thread, NULL, last, NULL), 0);
	if (detached)
		pthread_detach(thread);
	pthread_exit(NULL);
}

static void end_by_joinable(void)
{
	end_by_last(0);
}

static void end_by_detached(void)
{
	end_by_last(1);
}

static void last_thread_joinable(void)
{
	all_ran(end_by_joinable, 1);
}

static void last_thread_detached(void)
{
	all_ran(end_by_detached, 1);
}

static void end_by_main_alone(void)
{
	pthread_exit(NULL);
}

static void last_thread_is_main(void)
{
	all_ran(end_by_main_alone, 0);
}

const struct test exits_tests[] = {
	{ "exit_in_main", exit_in_main },
	{ "exit_in_a_thread", exit_in_a_thread },
	{ "last_thread_joinable", last_thread_joinable },
	{ "last_thread_detached", last_thread_detached },
	{ "last_thread_is_main", last_thread_is_main },
	{ NULL, NULL },
};
