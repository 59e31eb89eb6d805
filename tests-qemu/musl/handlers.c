/* Signals aimed at threads that are starting, at work, or exiting. None is aimed at the main thread. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "../cpus.h"
#include "rseq.h"
#include "test.h"

/* The stage of a thread: before its first line, before its last one, and past that one, where only the libc runs. */
enum { BORN, AT_WORK, LEAVING, STAGES };
static _Thread_local volatile int stage;
static int hits[STAGES], leaving, aimed;
static long later;
static struct cpus allowed;
static pthread_key_t key;

static void handler(int number)
{
	(void)number;
	registered_now("a signal handler");
	__atomic_add_fetch(&hits[stage], 1, __ATOMIC_RELAXED);
}

static void handler_that_moves(int number)
{
	(void)number;
	registered("a signal handler that moves");
}

static void wait_for(long nanoseconds)
{
	struct timespec begun, now;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begun.tv_sec) * 1000000000 + now.tv_nsec - begun.tv_nsec < nanoseconds);
}

/* On one CPU the signal would arrive before the thread continues. */
static void stand_on(int first)
{
	int cpu = first ? 0 : CPUS - 1;
	while (!has_cpu(&allowed, cpu))
		cpu += first ? 1 : -1;
	move_to_cpu(0, cpu);
}

/* A destructor is the program's last code. */
static void last_line(void *value)
{
	pthread_kill(pthread_self(), SIGUSR2);
	if (value == &aimed) {
		stand_on(0);
		__atomic_store_n(&leaving, 1, __ATOMIC_RELEASE);
		while (!__atomic_load_n(&aimed, __ATOMIC_ACQUIRE))
			sched_yield();
		wait_for(later);
	}
	stage = LEAVING;
}

static void *struck(void *argument)
{
	stage = AT_WORK;
	pthread_setspecific(key, argument);
	pthread_kill(pthread_self(), SIGUSR2);
	return argument;
}

static void strike(void *how)
{
	pthread_t thread;
	aimed = leaving = 0;
	CHECK_IS(pthread_create(&thread, NULL, struck, how), 0);
	if (how == &aimed)
		stand_on(1);
	while (how == &aimed && !__atomic_load_n(&leaving, __ATOMIC_ACQUIRE))
		sched_yield();
	if (how != &aimed)
		wait_for(later);
	__atomic_store_n(&aimed, 1, __ATOMIC_RELEASE);
	pthread_kill(thread, SIGUSR1);
	allow_cpus(0, &allowed);
	CHECK_IS(pthread_join(thread, NULL), 0);
}

static void signal_handlers(void)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	int lives = scaled(1000, 60, 60), swift, i;
	time_t patience = time(NULL) + 100;
	allowed_cpus(&allowed);
	swift = scaled(1, 0, 0) && several_cpus(&allowed);
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = handler_that_moves;
	sigaction(SIGUSR2, &action, NULL);
	CHECK_IS(pthread_key_create(&key, last_line), 0);
	for (i = 0; i < 10; i++)
		raise(SIGUSR2);
	/*
	 * One thread is targeted from its creation on, a little later each time. The next waits for that when it exits,
	 * and then a little longer each time: the signal comes after the last handler can run, and before, and between.
	 */
	for (i = 0; i < lives || (swift && !hits[LEAVING] && i < 20 * lives && time(NULL) < patience); i++) {
		later = scaled(100000, 500000, 500000) * (long)(i % lives) / lives;
		strike(&key);
		later /= 5;
		strike(&aimed);
	}
	CHECK(hits[BORN] + hits[AT_WORK] > i / 4);
	/* A slow or busy machine may never get the timing right. */
	CHECK(!swift || time(NULL) >= patience || (hits[BORN] && hits[LEAVING]));
	tell("hit in %d lives: %d before the first line, %d after the last, %d between", 2 * i, hits[BORN], hits[LEAVING], hits[AT_WORK]);
}

const struct test handlers_tests[] = {
	{ "signal_handlers", signal_handlers },
	{ NULL, NULL },
};
