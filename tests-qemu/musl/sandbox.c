/* A filter that refuses rseq(2) from the middle of the run. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "rseq.h"
#include "test.h"

#define PARKED 40

/* A libc has none of the kernel's headers: <linux/seccomp.h> and <linux/filter.h>. */
enum { SET_MODE_FILTER = 1, OF_ALL_THREADS = 1 };
enum { LOAD_WORD = 0x20, JUMP_IF_EQUAL = 0x15, RETURN = 0x06 };
#define REFUSE 0x00050000u
#define ALLOW 0x7fff0000u

struct instruction {
	unsigned short code;
	unsigned char if_true, if_false;
	unsigned value;
};

struct filter {
	unsigned short length;
	const struct instruction *code;
};

struct parked {
	int tid;
	void *stack;
};

static struct parked parked[PARKED];
static sem_t arrived, leave;
static int seen, error_of_filter;

/* Of all threads at once. */
static int install_filter(void)
{
	/* The number of the call is the first word that a filter sees. */
	const struct instruction code[] = {
		{ LOAD_WORD, 0, 0, 0 },
		{ JUMP_IF_EQUAL, 0, 1, SYS_rseq },
		{ RETURN, 0, 0, REFUSE | error_of_filter },
		{ RETURN, 0, 0, ALLOW },
	};
	const struct filter filter = { sizeof code / sizeof *code, code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return syscall(SYS_seccomp, SET_MODE_FILTER, OF_ALL_THREADS, &filter);
}

static void note(struct parked *self)
{
	int here;
	self->stack = (void *)((unsigned long)&here & -4096UL);
	__atomic_store_n(&self->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
}

static void *parked_life(void *argument)
{
	registered("before the filter");
	note(argument);
	sem_post(&arrived);
	while (sem_wait(&leave) != 0)
		;
	/* The kernel goes on to write, filter or not. */
	CHECK(cpu_id() >= 0);
	return argument;
}

static void *late_life(void *argument)
{
	refused("a thread after the filter");
	if (argument)
		note(argument);
	__atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
	return argument;
}

static int late_c11(void *argument)
{
	late_life(argument);
	return 3;
}

/* Waits until the kernel has no such thread. */
static void gone(int *tid)
{
	while (__atomic_load_n(tid, __ATOMIC_ACQUIRE) == 0)
		usleep(100);
	while (syscall(SYS_tgkill, getpid(), *tid, 0) == 0)
		usleep(100);
}

static int is_mapped(void *page)
{
	unsigned char resident;
	return mincore(page, 4096, &resident) == 0;
}

static void detach(void *(*body)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	CHECK_IS(pthread_create(&thread, &attributes, body, argument), 0);
}

static void moved(const char *where, int cpu)
{
	if (cpu_id() != cpu)
		fail(__FILE__, __LINE__, "%s: on CPU %d cpu_id is %d", where, cpu, cpu_id());
}

static void threads_after(void)
{
	struct trio before = trio_now();
	pthread_t thread;
	thrd_t other;
	int i, result = 0;
	seen = 0;
	for (i = 0; i < scaled(200, 20, 20); i++) {
		CHECK_IS(pthread_create(&thread, NULL, late_life, NULL), 0);
		CHECK_IS(pthread_join(thread, NULL), 0);
		CHECK_IS(thrd_create(&other, late_c11, NULL), thrd_success);
		CHECK_IS(thrd_join(other, &result), thrd_success);
		CHECK_IS(result, 3);
	}
	CHECK_IS(seen, 2 * i);
	CHECK_IS(before.size, trio_now().size);
	on_each_cpu(moved, "the main thread after the filter");
}

/* Those that were never registered unmap themselves; there is nothing to take back. */
static void detached_after(void)
{
	int i;
	for (i = 0; i < scaled(200, 20, 20); i++) {
		struct parked one = { 0, NULL };
		detach(late_life, &one);
		gone(&one.tid);
#ifndef __GLIBC__
		CHECK_IS(is_mapped(one.stack), 0);
#endif
	}
}

/* Those that the kernel does not let go leave their memory behind. */
static void release_is_refused(void)
{
	int i, kept = 0;
	for (i = 0; i < PARKED; i++)
		sem_post(&leave);
	for (i = 0; i < PARKED; i++)
		gone(&parked[i].tid);
	for (i = 0; i < PARKED; i++)
		kept += is_mapped(parked[i].stack);
	CHECK_IS(kept, PARKED);
	tell("%d registered threads ended, their memory stays", kept);
}

static void late_filter(int error)
{
	int i;
	error_of_filter = error;
	if (!kernel_has_rseq()) {
		skip("there is no rseq(2) here");
		return;
	}
	sem_init(&arrived, 0, 0);
	sem_init(&leave, 0, 0);
	for (i = 0; i < PARKED; i++)
		detach(parked_life, &parked[i]);
	for (i = 0; i < PARKED; i++)
		while (sem_wait(&arrived) != 0)
			;
	if (install_filter() != 0) {
		skip("seccomp takes no filter: errno %d", errno);
		return;
	}
	CHECK_IS(syscall(SYS_rseq, NULL, 0, 0, 0), -1);
	CHECK_IS(errno, error);
	threads_after();
	detached_after();
	release_is_refused();
	threads_after();
}

static void late_filter_eperm(void)
{
	late_filter(EPERM);
}

static void late_filter_enosys(void)
{
	late_filter(ENOSYS);
}

const struct test sandbox_tests[] = {
	{ "late_filter_eperm", late_filter_eperm },
	{ "late_filter_enosys", late_filter_enosys },
	{ NULL, NULL },
};
