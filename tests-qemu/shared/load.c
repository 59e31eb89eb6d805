/* Loads libraries, finds their interfaces, unloads them. */
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

/* Checks the owner of the table, by the file that holds it. */
void owner(int letter, const char *expected)
{
	char name[] = "lib?";
	Dl_info where;
	const char *base;
	CHECK(dladdr(lib(letter)->table(), &where) != 0);
	name[3] = expected[0];
	base = strrchr(where.dli_fname, '/');
	base = base ? base + 1 : where.dli_fname;
	CHECK_IS(strncmp(base, strcmp(expected, "main") == 0 ? expected : name, 4), 0);
}

static void *named(const char *file, void *handle)
{
	const char *base = strrchr(file, '/');
	if (handle)
		handles[(int)base[4]] = handle;
	return handle;
}

static void *load(const char *file, int how)
{
	return named(file, dlopen(file, RTLD_NOW | how));
}

void namespaced(const char *file)
{
#ifdef __GLIBC__
	CHECK(named(file, dlmopen(LM_ID_NEWLM, file, RTLD_NOW)) != NULL);
#else
	CHECK(!"a libc with namespaces");
	(void)file;
#endif
}

static const struct lib *loaded_plugins[64];

int plugins(const char *prefix)
{
	char file[4096];
	void *handle;
	int count;
	for (count = 0; count < 40; count++) {
		snprintf(file, sizeof file, "%s-%02d.so", prefix, count);
		handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
		if (!handle) {
			fprintf(stderr, "after %d: %s\n", count, dlerror());
			break;
		}
		loaded_plugins[count] = dlsym(handle, "lib_a");
		CHECK(loaded_plugins[count] != NULL);
	}
	return count;
}

void plugins_have(int expected)
{
	int i;
	for (i = 0; loaded_plugins[i]; i++) {
		CHECK_IS(loaded_plugins[i]->ensure(), expected);
		on_every_cpu(loaded_plugins[i]->cpu);
	}
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
	CHECK_IS(it->ensure(), state);
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
