/* At-exit callbacks that do not return: their callers are unwound, and the stack of callbacks stays valid. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>

#include "check.h"
#include "rseq_rt.h"

int failures;

static __thread rseq_rt_area area;
static __thread struct rseq_rt_at_exit callbacks;
static int cleaned, handled, called;
static __thread jmp_buf out;

static void clean(int *place)
{
	cleaned += *place;
}

static void count(void *argument)
{
	(void)argument;
	called++;
}

/* On the way out of a run: the callback not called yet, one added here, and then the end. */
static void handler(void *argument)
{
	(void)argument;
	handled++;
	CHECK_IS(called, 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, count, NULL), 0);
	CHECK_IS(rseq_rt_at_exit_run(&callbacks), 0);
	CHECK_IS(called, 2);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, count, NULL), -ESRCH);
}

static void leave_by_exit(void *argument)
{
	__attribute__((__cleanup__(clean))) int inner = 1;
	pthread_exit(argument);
}

static void leave_by_cancellation(void *argument)
{
	__attribute__((__cleanup__(clean))) int inner = 1;
	(void)argument;
	pthread_cancel(pthread_self());
	pthread_testcancel();
}

static void leave_by_jump(void *argument)
{
	(void)argument;
	longjmp(out, 1);
}

static void run(void)
{
	__attribute__((__cleanup__(clean))) int outer = 10;
	rseq_rt_at_exit_run(&callbacks);
	CHECK(!"a run that ends the thread returns");
}

static void leaves_by(void (*leave)(void *))
{
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, count, NULL), 0);
	CHECK_IS(rseq_rt_at_exit_push(&callbacks, leave, NULL), 0);
	pthread_cleanup_push(handler, NULL);
	run();
	pthread_cleanup_pop(0);
}

static void *exits(void *argument)
{
	leaves_by(leave_by_exit);
	return argument;
}

static void *is_cancelled(void *argument)
{
	leaves_by(leave_by_cancellation);
	return argument;
}

static void *jumps(void *argument)
{
	if (setjmp(out)) {
		handler(NULL);
		return argument;
	}
	leaves_by(leave_by_jump);
	return argument;
}

/* `cleanups`: 1 for the callback's own frame, 10 for the caller of the run. */
static void thread_is_unwound(void *(*life)(void *), int cleanups)
{
	pthread_t thread;
	cleaned = handled = called = 0;
	CHECK_IS(pthread_create(&thread, NULL, life, NULL), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
	CHECK_IS(cleaned, cleanups);
	CHECK_IS(handled, 1);
	CHECK_IS(called, 2);
}

static void exit_unwinds(void)
{
	thread_is_unwound(exits, 11);
}

static void cancellation_unwinds(void)
{
	thread_is_unwound(is_cancelled, 11);
}

static void jump_leaves_the_stack_whole(void)
{
	thread_is_unwound(jumps, 0);
}

int main(void)
{
	CHECK_IS(rseq_rt_init(NULL), 0);
	RUN(exit_unwinds);
	RUN(cancellation_unwinds);
	RUN(jump_leaves_the_stack_whole);
	return failures != 0;
}
