/* Every kind of thread, and every point of its life at which code of a program runs. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

#define STACK (256 * 1024)

static int seen;

static void main_thread(void)
{
	struct trio one = trio_now(), other = trio_of_library();
	registered("the main thread");
	CHECK_IS(one.offset, other.offset);
	CHECK_IS(one.size, other.size);
	CHECK_IS(one.flags, other.flags);
	/* The kernel's area is 32 bytes, aligned to 32, on every kernel. */
	CHECK_IS(((unsigned long)__builtin_thread_pointer() + one.offset) % 32, 0);
}

static void *life(void *argument)
{
	registered("a thread");
	__atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
	return argument;
}

static void make(const pthread_attr_t *attributes, void *(*body)(void *))
{
	pthread_t thread;
	void *result = NULL;
	int error = pthread_create(&thread, attributes, body, &seen);
	CHECK_IS(error, 0);
	if (error)
		return;
	CHECK_IS(pthread_join(thread, &result), 0);
	CHECK(result == &seen);
}

static void *parent(void *argument)
{
	make(NULL, life);
	return life(argument);
}

static void pthreads(void)
{
	pthread_t threads[8];
	int round, i;
	for (round = 0; round < scaled(20, 3, 3); round++) {
		for (i = 0; i < 8; i++)
			CHECK_IS(pthread_create(&threads[i], NULL, i % 2 ? life : parent, NULL), 0);
		for (i = 0; i < 8; i++)
			CHECK_IS(pthread_join(threads[i], NULL), 0);
	}
	CHECK_IS(seen, round * 12);
	registered("their parent");
}

static int c11_life(void *argument)
{
	registered("a C11 thread");
	if (argument)
		thrd_exit(7);
	return 7;
}

static void c11_threads(void)
{
	thrd_t thread;
	int i, result;
	for (i = 0; i < scaled(100, 10, 10); i++) {
		result = 0;
		CHECK_IS(thrd_create(&thread, c11_life, i % 2 ? &seen : NULL), thrd_success);
		if (i % 3 == 0) {
			CHECK_IS(thrd_detach(thread), thrd_success);
			continue;
		}
		CHECK_IS(thrd_join(thread, &result), thrd_success);
		CHECK_IS(result, 7);
	}
}

static pthread_key_t key;

static void of_the_key(void *value)
{
	long rounds = (long)value;
	registered("a TSD destructor");
	make(NULL, life);
	if (rounds > 1)
		pthread_setspecific(key, (void *)(rounds - 1));
	else
		__atomic_add_fetch(&seen, 100, __ATOMIC_RELAXED);
}

static void *with_key(void *argument)
{
	pthread_setspecific(key, (void *)3);
	return argument;
}

static void tsd_destructors(void)
{
	int i;
	CHECK_IS(pthread_key_create(&key, of_the_key), 0);
	for (i = 0; i < 5; i++)
		make(NULL, with_key);
	CHECK_IS(seen, 5 * (100 + 3));
}

static void cleanup(void *argument)
{
	(void)argument;
	registered("a cancelled thread's handler");
	__atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
}

static void *cancelled(void *argument)
{
	pthread_cleanup_push(cleanup, argument);
	for (;;)
		sleep(1);
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancellation(void)
{
	pthread_t thread;
	void *result;
	int i;
	for (i = 0; i < 10; i++) {
		CHECK_IS(pthread_create(&thread, NULL, cancelled, NULL), 0);
		CHECK_IS(pthread_cancel(thread), 0);
		CHECK_IS(pthread_join(thread, &result), 0);
		CHECK(result == PTHREAD_CANCELED);
	}
	registered("who cancelled");
	tell("%d of 10 had begun", seen);
}

static void on_timer(union sigval value)
{
	(void)value;
	registered("a timer's thread");
	__atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
}

static void timer_threads(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer };
	struct itimerspec often = { { 0, 2000000 }, { 0, 2000000 } };
	timer_t timer;
	int patience;
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) {
		skip("there are no such timers here: errno %d", errno);
		return;
	}
	CHECK_IS(timer_settime(timer, 0, &often, NULL), 0);
	for (patience = 0; patience < 10000 && __atomic_load_n(&seen, __ATOMIC_RELAXED) < 5; patience++)
		usleep(1000);
	CHECK(__atomic_load_n(&seen, __ATOMIC_RELAXED) >= 5);
}

/* The area is in the caller's memory, which is unmapped right after the join. */
static void stack_goes_after_join(void)
{
	pthread_attr_t attributes;
	int i;
	for (i = 0; i < scaled(2000, 50, 50); i++) {
		void *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(stack != MAP_FAILED);
		pthread_attr_init(&attributes);
		CHECK_IS(pthread_attr_setstack(&attributes, stack, STACK), 0);
		make(&attributes, life);
		CHECK_IS(munmap(stack, STACK), 0);
	}
	registered("who unmapped");
}

static int prepared, in_parent, forked;

static void prepare(void)
{
	registered("an atfork handler before");
	prepared++;
}

static void after_in_parent(void)
{
	registered("an atfork handler in the parent");
	in_parent++;
}

static void after_in_child(void)
{
	registered("an atfork handler in the child");
	forked++;
}

static void child_life(void)
{
	CHECK_IS(forked, 1);
	seen = 0;
	registered("a fork child");
	make(NULL, parent);
	CHECK_IS(seen, 2);
}

static void *forker(void *argument)
{
	CHECK_IS(in_child(child_life), DONE);
	registered("a thread that forked");
	return argument;
}

static void fork_and_its_handlers(void)
{
	CHECK_IS(pthread_atfork(prepare, after_in_parent, after_in_child), 0);
	CHECK_IS(in_child(child_life), DONE);
	make(NULL, forker);
	CHECK_IS(prepared, 2);
	CHECK_IS(in_parent, 2);
}

const struct test everywhere_tests[] = {
	{ "main_thread", main_thread },
	{ "pthreads", pthreads },
	{ "c11_threads", c11_threads },
	{ "tsd_destructors", tsd_destructors },
	{ "cancellation", cancellation },
	{ "timer_threads", timer_threads },
	{ "stack_goes_after_join", stack_goes_after_join },
	{ "fork_and_its_handlers", fork_and_its_handlers },
	{ NULL, NULL },
};
