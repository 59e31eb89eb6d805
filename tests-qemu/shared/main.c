/*
 * Several users of rseq in one process, step by step as the command line says. Each step prints its
 * verdict; the status is 1 if one failed.
 *     global:FILE local:FILE   dlopen; FILE is DIR/lib?.so or DIR/lib?-KIND.so, ? its letter from here on
 *     namespace:FILE           dlmopen: in a new namespace
 *     plugins:PREFIX           dlopen 40 copies of a library: all of them; more than the loader takes: too-many:PREFIX
 *     all=STATE                ensure through each of them
 *     keys                     takes all thread keys that are left
 *     value                    sets a thread-specific value of the program; later: it is still there
 *     count:X                  on one CPU, which may have any number, whatever sysconf(3) says
 *     refused:FILE             this libc does not load it, for its initial-exec TLS
 *     quiet                    no error is left for dlerror(3)
 *     close:X                  dlclose: it stays
 *     outlive:X                dlclose while a thread lives that X registered; then the thread asks again, and ends
 *     X=STATE                  ensure through library X on this thread: registered, libc, taken, without, unregistered
 *     X~Y X!Y                  they have one owner; they have two
 *     owner:X:Y owner:X:main   the code that calls of X reach is that of Y, or the program's
 *     r=STATE                  the reader: live (the thread's area), none (size 0), early (as r=live, in its constructor)
 *     threads:XY               threads that ensure through X and Y, each of them first in half of them
 *     once:XY                  after X, ensure through Y makes no rseq(2)
 *     fork:XY                  the child is registered as its parent was, and so are the child's threads
 *     split:XY                 X and Y do not know each other: the first on a thread has it, the other goes without
 *     hidden                   from here on this thread has an invisible owner
 *     beside:X                 X on a thread of such an owner, in a process where X is in use
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../capi/check.h"
#include "keys.h"
#include "load.h"
#include "rseq_rt.h"
#include "trap.h"

int failures;

/* The owner if a thread goes without: nobody, or anybody else, since being taken concerns only that thread. */
enum { ANYBODY = -1, SOMEBODY = -2 };
static const struct { const char *name; int state, owner; } states[] = {
	{ "unregistered", RSEQ_RT_UNREGISTERED, ANYBODY },
	{ "registered", RSEQ_RT_REGISTERED, RSEQ_RT_OWNER_RUNTIME },
	{ "libc", RSEQ_RT_REGISTERED_BY_LIBC, RSEQ_RT_OWNER_LIBC },
	{ "taken", RSEQ_RT_UNAVAILABLE, SOMEBODY },
	{ "without", RSEQ_RT_UNAVAILABLE, RSEQ_RT_OWNER_NOBODY },
};

static void ensure(int letter, int expected)
{
	const struct lib *it = lib(letter);
	CHECK_IS(it->ensure(), expected);
	CHECK_IS(it->state(), expected);
	on_every_cpu(it->cpu);
	CHECK_IS(it->area() != NULL, expected == RSEQ_RT_REGISTERED || expected == RSEQ_RT_REGISTERED_BY_LIBC);
}

static void read_through(const char *expected)
{
	const struct reader *it = the_reader();
	if (strcmp(expected, "none") == 0) {
		CHECK_IS(it->size(), 0);
		return;
	}
	CHECK(it->size() >= 20);
	on_every_cpu(it->cpu);
	if (strcmp(expected, "early") == 0)
		CHECK_IS(*it->size_in_constructor, it->size());
}

static int number_of(const char *name)
{
	size_t i;
	for (i = 0; i < sizeof states / sizeof *states; i++)
		if (strcmp(name, states[i].name) == 0)
			return i;
	fprintf(stderr, "no state %s\n", name);
	exit(2);
}

static void ensure_called(int letter, const char *name)
{
	int i = number_of(name);
	ensure(letter, states[i].state);
	if (states[i].owner == SOMEBODY)
		CHECK(lib(letter)->owner() != RSEQ_RT_OWNER_NOBODY);
	else if (states[i].owner != ANYBODY)
		CHECK_IS(lib(letter)->owner(), states[i].owner);
}

/* The last CPU that it may use: its number is beyond musl's count. */
static void count_cpus(int letter)
{
	cpu_set_t all, one;
	int last = CPU_SETSIZE - 1;
	CHECK_IS(sched_getaffinity(0, sizeof all, &all), 0);
	while (!CPU_ISSET(last, &all))
		last--;
	CPU_ZERO(&one);
	CPU_SET(last, &one);
	CHECK_IS(sched_setaffinity(0, sizeof one, &one), 0);
	CHECK_IS(lib(letter)->cpu(), last);
	printf("CPU %d of %ld configured\n", last, sysconf(_SC_NPROCESSORS_CONF));
#ifndef __GLIBC__
	CHECK_IS(sysconf(_SC_NPROCESSORS_CONF), 1);
#endif
	CHECK_IS(sched_setaffinity(0, sizeof all, &all), 0);
}

static const char *pair;
static int expected_in_threads, number_of_threads, reads_in_threads;

static void *life(void *argument)
{
	int turned = __atomic_fetch_add(&number_of_threads, 1, __ATOMIC_RELAXED) & 1;
	int first = pair[turned], second = pair[!turned];
	const void *area;
	if (reads_in_threads && expected_in_threads == RSEQ_RT_REGISTERED)
		CHECK_IS(the_reader()->cpu(), -1);
	if (expected_in_threads == RSEQ_RT_REGISTERED)
		CHECK(kernel_has_none());
	ensure(first, expected_in_threads);
	if (expected_in_threads == RSEQ_RT_REGISTERED)
		CHECK(!kernel_has_none());
	area = lib(first)->area();
	ensure(second, expected_in_threads);
	CHECK(lib(second)->area() == area);
	if (reads_in_threads) {
		CHECK(the_reader()->area() == area);
		on_every_cpu(the_reader()->cpu);
	}
	return argument;
}

static void threads(const char *letters)
{
	pthread_t running[8];
	int round, i;
	pair = letters;
	expected_in_threads = lib(letters[0])->state();
	/* Taken, without a decision: the next threads are free. */
	if (expected_in_threads == RSEQ_RT_UNAVAILABLE && lib(letters[0])->owner() == RSEQ_RT_OWNER_UNDECIDED)
		expected_in_threads = RSEQ_RT_REGISTERED;
	reads_in_threads = has_reader() && the_reader()->size() != 0;
	for (round = 0; round < 8; round++) {
		for (i = 0; i < 8; i++)
			CHECK_IS(pthread_create(&running[i], NULL, life, NULL), 0);
		for (i = 0; i < 8; i++)
			CHECK_IS(pthread_join(running[i], NULL), 0);
	}
}

static void *counted(void *argument)
{
	ensure(pair[0], expected_in_threads);
	trap_rseq();
	ensure(pair[1], expected_in_threads);
	ensure(pair[0], expected_in_threads);
	CHECK_IS(trapped, 0);
	/* Shows that the trap works. */
	raw_rseq(NULL, 0, 0);
	CHECK_IS(trapped, 1);
	/* Not by returning: exit would be trapped with signals blocked. */
	_exit(failures != 0);
	return argument;
}

static void once(const char *letters)
{
	pthread_t thread;
	pid_t child;
	pair = letters;
	expected_in_threads = lib(letters[0])->state();
	fflush(stdout);
	child = fork();
	if (child == 0) {
		if (pthread_create(&thread, NULL, counted, NULL) == 0)
			pthread_join(thread, NULL);
		_exit(1);
	}
	CHECK_ENDS(child, 0);
}

static void forked(const char *letters)
{
	int state = lib(letters[0])->state();
	pid_t child;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		CHECK_IS(kernel_has_none(), 0);
		ensure(letters[1], state);
		threads(letters);
		_exit(failures != 0);
	}
	CHECK_ENDS(child, 0);
	ensure(letters[0], state);
}

/* Alone on its thread. */
static void *decider(void *argument)
{
	ensure(pair[__atomic_fetch_add(&number_of_threads, 1, __ATOMIC_RELAXED) & 1], RSEQ_RT_REGISTERED);
	return argument;
}

static void *stranger(void *argument)
{
	int turned = __atomic_fetch_add(&number_of_threads, 1, __ATOMIC_RELAXED) & 1;
	int first = pair[turned], second = pair[!turned];
	ensure(first, RSEQ_RT_REGISTERED);
	ensure(second, RSEQ_RT_UNAVAILABLE);
	ensure(first, RSEQ_RT_REGISTERED);
	CHECK(!kernel_has_none());
	return argument;
}

static void split(const char *letters)
{
	pthread_t thread;
	int i;
	pair = letters;
	for (i = 0; i < 64; i++) {
		/* Both decide for the process on separate threads; otherwise the second would never try. */
		CHECK_IS(pthread_create(&thread, NULL, i < 2 ? decider : stranger, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
	}
}

/* X owns other threads of the process. */
static void *beside(void *letter)
{
	CHECK_IS(hidden_owner(), 0);
	ensure(*(const char *)letter, RSEQ_RT_UNAVAILABLE);
	return NULL;
}

static void beside_hidden(const char *letter)
{
	pthread_t thread;
	int state = lib(*letter)->state();
	CHECK_IS(pthread_create(&thread, NULL, beside, (void *)letter), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
	ensure(*letter, state);
}

static void step(char *word)
{
	static char *file;
	char *colon = strchr(word, ':');
	if (strncmp(word, "global:", 7) == 0)
		loaded(file = colon + 1, RTLD_GLOBAL);
	else if (strncmp(word, "local:", 6) == 0)
		loaded(file = colon + 1, RTLD_LOCAL);
	else if (strncmp(word, "namespace:", 10) == 0)
		namespaced(colon + 1);
	else if (strncmp(word, "plugins:", 8) == 0)
		CHECK_IS(plugins(colon + 1), 40);
	else if (strncmp(word, "too-many:", 9) == 0)
		CHECK(plugins(colon + 1) < 40);
	else if (strncmp(word, "all=", 4) == 0)
		plugins_have(states[number_of(word + 4)].state);
	else if (strcmp(word, "keys") == 0)
		exhaust_keys();
	else if (strcmp(word, "value") == 0)
		keep_value();
	else if (strncmp(word, "count:", 6) == 0)
		count_cpus(colon[1]);
	else if (strncmp(word, "refused:", 8) == 0)
		refused(colon + 1);
	else if (strncmp(word, "close:", 6) == 0)
		unload(colon[1], file);
	else if (strncmp(word, "outlive:", 8) == 0)
		outlive(colon[1]);
	else if (strncmp(word, "owner:", 6) == 0)
		owner(colon[1], colon + 3);
	else if (strncmp(word, "threads:", 8) == 0)
		threads(colon + 1);
	else if (strncmp(word, "once:", 5) == 0)
		once(colon + 1);
	else if (strncmp(word, "fork:", 5) == 0)
		forked(colon + 1);
	else if (strncmp(word, "split:", 6) == 0)
		split(colon + 1);
	else if (strcmp(word, "quiet") == 0)
		quiet();
	else if (strcmp(word, "hidden") == 0)
		CHECK_IS(hidden_owner(), 0);
	else if (strncmp(word, "beside:", 7) == 0)
		beside_hidden(colon + 1);
	else if (strncmp(word, "r=", 2) == 0)
		read_through(word + 2);
	else if (word[1] == '=')
		ensure_called(word[0], word + 2);
	else if (word[1] == '~')
		CHECK(lib(word[0])->table() == lib(word[2])->table());
	else if (word[1] == '!')
		CHECK(lib(word[0])->table() != lib(word[2])->table());
	else
		CHECK(!"a step that is known");
}

int main(int count, char **words)
{
	int i;
	for (i = 1; i < count; i++) {
		int before = failures;
		step(words[i]);
		printf("%s: %s\n", words[i], failures == before ? "passed" : "failed");
		fflush(stdout);
	}
	return failures != 0 || count == 1;
}
