/*
 * Detached threads unmap their own stack, area included, under signals and concurrent mappings. With the release hook
 * absent or too late, the kernel kills each of these processes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

#define PROCESSES 20
#define AT_A_TIME 16

static sem_t places;
static int ended, stop, handled, available;
/* Shared by all processes. */
static struct { int handlers, late; } *told;
static _Thread_local volatile int is_late;
static sigset_t flying;

static void handler(int number)
{
	int before = errno;
	(void)number;
	if (available && cpu_id() < 0)
		fail(__FILE__, __LINE__, "a handler finds cpu_id %d", cpu_id());
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&told->handlers, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&told->late, is_late, __ATOMIC_RELAXED);
	errno = before;
}

/* No other thread has the signals open: those of the process can only come here. */
static void *detached(void *detach)
{
	pthread_sigmask(SIG_UNBLOCK, &flying, NULL);
	if (detach)
		pthread_detach(pthread_self());
	__atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
	sem_post(&places);
	is_late = 1;
	return NULL;
}

/* Maps and unmaps the memory left by ended threads. */
static void *mapper(void *argument)
{
	size_t size = 4096;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED)
			continue;
		memset(at, 0xaa, 4096);
		munmap(at, size);
		usleep(scaled(200, 500, 500));
		size = size < 1 << 20 ? size * 2 : 4096;
	}
	return argument;
}

static void *signaller(void *argument)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		kill(getpid(), SIGUSR1);
		usleep(scaled(1000, 5000, 5000));
	}
	return argument;
}

/* A third each: created detached, detached by the parent, detached by itself. */
static void one_more(int number)
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	if (number % 3 == 0)
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	while (sem_wait(&places) != 0)
		;
	if (pthread_create(&thread, &attributes, detached, number % 3 == 2 ? &ended : NULL) != 0) {
		fail(__FILE__, __LINE__, "thread %d was not made", number);
		return;
	}
	if (number % 3 == 1)
		pthread_detach(thread);
}

static int threads_each(void)
{
#ifdef SHARED
	return scaled(2000, 200, 200);
#else
	return scaled(20000, 200, 200);
#endif
}

static void process(void)
{
	/* Not so often that a slow machine makes no progress. */
	int period = scaled(1000, 20000, 5000);
	struct itimerval often = { { 0, period }, { 0, period } };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	int threads = threads_each(), i;
	pthread_t beside[2];
	available = kernel_has_rseq();
	sem_init(&places, 0, AT_A_TIME);
	sigemptyset(&flying);
	sigaddset(&flying, SIGALRM);
	sigaddset(&flying, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &flying, NULL);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	CHECK_IS(pthread_create(&beside[0], NULL, mapper, NULL), 0);
	CHECK_IS(pthread_create(&beside[1], NULL, signaller, NULL), 0);
	for (i = 0; i < threads; i++)
		one_more(i);
	while (__atomic_load_n(&ended, __ATOMIC_RELAXED) < threads)
		usleep(1000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		CHECK_IS(pthread_join(beside[i], NULL), 0);
	registered("the main thread after a storm");
	/* The last ones are still exiting. */
	usleep(10000);
	_exit(ended == threads && handled > scaled(10, 0, 0) ? DONE : 1);
}

static void detached_storm(void)
{
	int processes = scaled(PROCESSES, 3, 2), dead = 0, i, status;
	pid_t children[PROCESSES];
	told = shared(sizeof *told);
	for (i = 0; i < processes; i++) {
		children[i] = fork();
		if (children[i] == 0)
			process();
	}
	for (i = 0; i < processes; i++) {
		status = -1;
		waitpid(children[i], &status, 0);
		dead += WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
		if (status != DONE)
			fail(__FILE__, __LINE__, "a process of the storm: status %#x", status);
	}
	printf("@fact dead %d/%d\n", dead, processes);
	fflush(stdout);
	tell("%d processes of %d threads, in which %d handlers ran, %d of them past the last line", processes, threads_each(),
	     told->handlers, told->late);
}

const struct test storm_tests[] = {
	{ "detached_storm", detached_storm },
	{ NULL, NULL },
};
