/*
 * The area's memory becomes unwritable while the thread is registered: memory protected|moved. The kernel cannot write
 * to it, and the process dies, although a SIGSEGV handler would make the memory writable again.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../capi/check.h"
#include "rseq_rt.h"
#include "trap.h"

int failures;

enum { PAGE = 4096 };
static char *page;

static void *new_page(void)
{
	return mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void mend(int number)
{
	(void)number;
	mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static int some_cpu(void)
{
	unsigned cpu = 0;
	sched_yield();
	cpu = sched_getcpu();
	return cpu;
}

static void *life(void *how)
{
	rseq_rt_area *area = (rseq_rt_area *)page;
	int i;
	CHECK_IS(rseq_rt_on_thread_create(area), 0);
	CHECK_IS(rseq_rt_thread_state(area), RSEQ_RT_REGISTERED);
	if (strcmp(how, "protected") == 0)
		CHECK_IS(mprotect(page, PAGE, PROT_READ), 0);
	else
		CHECK(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, new_page()) != MAP_FAILED);
	for (i = 0; i < 100; i++)
		on_every_cpu(some_cpu);
	return NULL;
}

int main(int count, char **words)
{
	struct sigaction action;
	pthread_t thread;
	if (count != 2)
		return 2;
	page = new_page();
	CHECK_IS(rseq_rt_init(NULL), 0);
	memset(&action, 0, sizeof action);
	action.sa_handler = mend;
	CHECK_IS(sigaction(SIGSEGV, &action, NULL), 0);
	CHECK_IS(pthread_create(&thread, NULL, life, words[1]), 0);
	CHECK_IS(pthread_join(thread, NULL), 0);
	return failures != 0;
}
