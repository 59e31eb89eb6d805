/* Children that share the memory for a while, of many threads that the scheduler moves meanwhile. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cpus.h"
#include "rseq.h"
#include "test.h"

#define SHELL "/bin/sh"
#define PARENTS 6

extern char **environ;

static int tids[PARENTS], parents, stop;
static pthread_mutex_t moved = PTHREAD_MUTEX_INITIALIZER;
static struct cpus allowed;

static void ended_with(pid_t child, int code)
{
	int status = -1;
	CHECK(child > 0);
	if (child <= 0)
		return;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
		fail(__FILE__, __LINE__, "a child's status is %#x, not exit code %d", status, code);
}

static void spawned(void)
{
	char *words[] = { SHELL, "-c", "exit 7", NULL };
	pid_t child = -1;
	CHECK_IS(posix_spawn(&child, SHELL, NULL, NULL, words, environ), 0);
	ended_with(child, 7);
}

static void spawn_is_refused(void)
{
	char *words[] = { "/nothing", NULL };
	pid_t child = -1;
	CHECK_IS(posix_spawn(&child, words[0], NULL, NULL, words, environ), ENOENT);
}

static void vforked(void)
{
	char *words[] = { SHELL, "-c", "exit 7", NULL };
	pid_t child = vfork();
	if (child == 0) {
		execve(SHELL, words, environ);
		_exit(1);
	}
	ended_with(child, 7);
	child = vfork();
	if (child == 0)
		_exit(5);
	ended_with(child, 5);
}

static void by_system(void)
{
	int status = system("exit 7");
	CHECK(WIFEXITED(status));
	CHECK_IS(WEXITSTATUS(status), 7);
}

/* One at a time: musl 1.2.3 lets popen close, in the child, a descriptor that a pclose elsewhere has just given back. */
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

static void with_popen(void)
{
	char line[32] = "";
	FILE *pipe = popen("echo word", "r");
	if (!pipe)
		fail(__FILE__, __LINE__, "popen: errno %d", errno);
	if (!pipe)
		return;
	CHECK(fgets(line, sizeof line, pipe) != NULL);
	CHECK_IS(strcmp(line, "word\n"), 0);
	CHECK_IS(pclose(pipe), 0);
}

static void by_popen(void)
{
	pthread_mutex_lock(&one);
	with_popen();
	pthread_mutex_unlock(&one);
}

static void (*const ways[])(void) = { spawned, vforked, by_system, by_popen, spawn_is_refused };
#define WAYS (int)(sizeof ways / sizeof *ways)

static void *parent(void *argument)
{
	int i, mine, rounds = scaled(60, 6, 4);
	pthread_mutex_lock(&moved);
	mine = parents++;
	tids[mine] = syscall(SYS_gettid);
	pthread_mutex_unlock(&moved);
	for (i = 0; i < rounds * WAYS; i++) {
		ways[i % WAYS]();
		registered_now("a parent");
	}
	/* The tid may be reused as soon as this thread has ended. */
	pthread_mutex_lock(&moved);
	tids[mine] = 0;
	pthread_mutex_unlock(&moved);
	allow_cpus(0, &allowed);
	return argument;
}

/* Moves the parents between CPUs, including those that wait for a child. */
static void *mover(void *argument)
{
	int cpu, i;
	for (cpu = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); cpu = (cpu + 1) % CPUS) {
		if (!has_cpu(&allowed, cpu))
			continue;
		pthread_mutex_lock(&moved);
		for (i = 0; i < PARENTS; i++)
			if (tids[i])
				move_to_cpu(tids[i], cpu);
		pthread_mutex_unlock(&moved);
		usleep(300);
	}
	return argument;
}

static void children_from_many_threads(void)
{
	pthread_t threads[PARENTS], moving;
	int i;
	if (access(SHELL, X_OK) != 0) {
		skip("there is no " SHELL);
		return;
	}
	allowed_cpus(&allowed);
	CHECK_IS(pthread_create(&moving, NULL, mover, NULL), 0);
	for (i = 1; i < PARENTS; i++)
		CHECK_IS(pthread_create(&threads[i], NULL, parent, NULL), 0);
	parent(NULL);
	for (i = 1; i < PARENTS; i++)
		CHECK_IS(pthread_join(threads[i], NULL), 0);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	CHECK_IS(pthread_join(moving, NULL), 0);
	registered("a parent of many");
	tell("%d children", PARENTS * scaled(60, 6, 4) * (WAYS + 1));
}

/*
 * A child that shares the memory has the thread pointer and so the area of its parent, whose ids are frozen: a load
 * there is wrong as soon as it runs elsewhere.
 */
static int child_on(void *argument)
{
	int cpu = *(int *)argument;
	move_to_cpu(0, cpu);
	if (cpu_by_call() != cpu)
		return 1;
	return sched_getcpu() == cpu ? 0 : 2;
}

static pid_t by_vfork(int cpu)
{
	pid_t child = vfork();
	if (child == 0)
		_exit(child_on(&cpu));
	return child;
}

static char stack[16384] __attribute__((__aligned__(16)));

static pid_t by_clone(int cpu)
{
	return clone(child_on, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &cpu);
}

static void children_on_each_cpu(pid_t (*make)(int))
{
	struct cpus all;
	int cpu, looked = 0;
	allowed_cpus(&all);
	for (cpu = 0; cpu < CPUS; cpu++)
		if (has_cpu(&all, cpu)) {
			ended_with(make(cpu), 0);
			looked++;
		}
	registered("the parent");
	tell("on %d CPUs", looked);
}

static void vfork_child_knows_its_cpu(void)
{
	children_on_each_cpu(by_vfork);
}

static void clone_child_knows_its_cpu(void)
{
	children_on_each_cpu(by_clone);
	/* If refused, the parent is unchanged. */
	CHECK(clone(child_on, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FS | CLONE_NEWNS, NULL) < 0);
	registered("who was refused a child");
}

/* A fork child has its own memory, whoever forked it, and is registered as its parent's parent was. */
static void child_of_a_vfork_child(void)
{
	pid_t child = vfork();
	if (child == 0) {
		pid_t grandchild = fork();
		if (grandchild == 0) {
			registered("the child of a vfork child");
			/* It can lend in turn. */
			vforked();
			registered("the child of a vfork child, a parent now");
			_exit(7);
		}
		ended_with(grandchild, 7);
		_exit(5);
	}
	ended_with(child, 5);
	registered("the parent of a vfork child that forked");
}

/* A new program is a new process for rseq: the old registration is gone. */
static void executed_program_registers_anew(void)
{
	char *words[] = { (char *)program, "--executed", NULL };
	int i;
	if (!program) {
		skip("the emulator cannot execute this program");
		return;
	}
	for (i = 0; i < 10; i++) {
		pid_t child = -1;
		CHECK_IS(posix_spawn(&child, program, NULL, NULL, words, environ), 0);
		ended_with(child, 0);
	}
}

const struct test spawn_tests[] = {
	{ "children_from_many_threads", children_from_many_threads },
	{ "vfork_child_knows_its_cpu", vfork_child_knows_its_cpu },
	{ "clone_child_knows_its_cpu", clone_child_knows_its_cpu },
	{ "child_of_a_vfork_child", child_of_a_vfork_child },
	{ "executed_program_registers_anew", executed_program_registers_anew },
	{ NULL, NULL },
};
