/* Loads libraries, finds what they offer, unloads them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../capi/check.h"
#include "load.h"
#include "rseq_rt.h"
#include "trap.h"

static void *handles[128];

const struct lib *lib(int letter)
{
	char name[] = "lib_?";
	const struct lib *found;
	name[4] = letter;
	found = dlsym(handles[letter] ? handles[letter] : RTLD_DEFAULT, name);
	if (!found) {
		fprintf(stderr, "no %s\n", name);
		exit(2);
	}
	return found;
}

const struct reader *the_reader(void)
{
	const struct reader *found = dlsym(handles['r'] ? handles['r'] : RTLD_DEFAULT, "reader");
	if (!found) {
		fprintf(stderr, "no reader\n");
		exit(2);
	}
	return found;
}

int has_reader(void)
{
	int found = dlsym(handles['r'] ? handles['r'] : RTLD_DEFAULT, "reader") != NULL;
	(void)dlerror();
	return found;
}

/* Whose the table is, by the file that holds it. */
void owner(int letter, const char *expected)
{
	char name[] = "lib?";
	Dl_info where;
	CHECK(dladdr(lib(letter)->table, &where) != 0);
	name[3] = expected[0];
	if (strcmp(expected, "main") == 0)
		CHECK(strstr(where.dli_fname, "/lib") == NULL);
	else
		CHECK(strstr(where.dli_fname, name) != NULL);
}

static void *load(const char *file, int how)
{
	const char *base = strrchr(file, '/');
	void *handle = dlopen(file, RTLD_NOW | how);
	if (handle)
		handles[(int)base[4]] = handle;
	return handle;
}

void loaded(const char *file, int how)
{
	void *handle = load(file, how);
	/* Whether it was loaded or not: a constructor must leave no error behind. */
	quiet();
	CHECK(handle != NULL);
}

void refused(const char *file)
{
	const char *why;
	CHECK(load(file, RTLD_LOCAL) == NULL);
	why = dlerror();
	if (!why)
		why = "no reason";
	printf("%s\n", why);
	CHECK(strstr(why, "initial-exec TLS") != NULL);
}

void quiet(void)
{
	const char *why = dlerror();
	if (why)
		fprintf(stderr, "%s\n", why);
	CHECK(why == NULL);
}

void unload(int letter, const char *file)
{
	const struct lib *it = lib(letter);
	int before = it->state();
	CHECK_IS(dlclose(handles[letter]), 0);
	CHECK(dlopen(file, RTLD_NOW | RTLD_NOLOAD) != NULL);
	CHECK_IS(it->ensure(), before);
	on_every_cpu(it->cpu);
}

static pthread_barrier_t unloaded;

static void *survivor(void *argument)
{
	const struct lib *it = argument;
	int state = it->ensure();
	pthread_barrier_wait(&unloaded);
	pthread_barrier_wait(&unloaded);
	return (void *)(long)state;
}

void outlive(int letter)
{
	pthread_t thread;
	void *state;
	CHECK_IS(pthread_barrier_init(&unloaded, NULL, 2), 0);
	CHECK_IS(pthread_create(&thread, NULL, survivor, (void *)lib(letter)), 0);
	pthread_barrier_wait(&unloaded);
	CHECK_IS(dlclose(handles[letter]), 0);
	pthread_barrier_wait(&unloaded);
	CHECK_IS(pthread_join(thread, &state), 0);
	CHECK((long)state == RSEQ_RT_REGISTERED || (long)state == RSEQ_RT_REGISTERED_BY_LIBC);
}
