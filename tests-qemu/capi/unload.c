/*
 * A shared object with a section is unloaded after a thread has run it. A thread that has called rseq_rt_prepare_unload
 * lives on; the broken variant, which has not, is killed when the kernel reads the descriptor.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auxv.h"
#include "check.h"
#include "rseq_rt_percpu.h"

int failures;

typedef int add(struct rseq *, struct rseq_rt_slots);

/* Shared by the test and its child. */
static struct shared {
	int is_unloaded, is_signalled;
} *shared;

static struct rseq_rt_slots slots;
static rseq_rt_area area = RSEQ_RT_AREA_INIT;

/* The descriptor that the kernel would read. */
static volatile uint64_t *descriptor(struct rseq *rseq)
{
	return (volatile uint64_t *)rseq + 1;
}

static int is_mapped(uint64_t address)
{
	unsigned char resident;
	uintptr_t page = (uintptr_t)address & -(uintptr_t)sysconf(_SC_PAGESIZE);

	return mincore((void *)page, 1, &resident) == 0 || errno != ENOMEM;
}

static void handler(int signal)
{
	(void)signal;
	__atomic_store_n(&shared->is_signalled, 1, __ATOMIC_RELAXED);
}

/* Runs the section until its descriptor is left behind: an interrupt in between makes the kernel clear it. */
static uint64_t run_section(add *section, struct rseq *rseq)
{
	uint64_t left = 0;

	while (!left)
		if (section(rseq, slots) == RSEQ_RT_COMMITTED)
			left = *descriptor(rseq);
	return left;
}

/* In a child: unloads the object, and spins until a signal has come. */
static void unload(int prepares)
{
	struct rseq *rseq = rseq_rt_current(&area);
	struct rlimit no_core = { 0, 0 };
	void *object = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
	add *section;
	Dl_info section_in, descriptor_in;
	uint64_t left;

	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGUSR1, handler);
	CHECK(object != NULL);
	*(void **)&section = dlsym(object, "plugin_add");
	CHECK(section != NULL);
	CHECK(dladdr(*(void **)&section, &section_in) != 0);
	left = run_section(section, rseq);
	CHECK(dladdr((void *)(uintptr_t)left, &descriptor_in) != 0);
	CHECK(descriptor_in.dli_fbase == section_in.dli_fbase);
	if (prepares) {
		left = run_section(section, rseq);
		CHECK_IS(rseq_rt_prepare_unload(&area), 0);
		CHECK_IS(*descriptor(rseq), 0);
	}
	CHECK_IS(dlclose(object), 0);
	CHECK(!is_mapped(left));
	/* The descriptor is unchanged if no interrupt has come since the section. */
	if (!prepares)
		*descriptor(rseq) = left;
	__atomic_store_n(&shared->is_unloaded, 1, __ATOMIC_RELEASE);
	/* No system call: recent kernels read a descriptor only where they interrupt user code. */
	while (!__atomic_load_n(&shared->is_signalled, __ATOMIC_RELAXED))
		;
	_exit(failures != 0);
}

/* The end of the child. */
static int unloaded(int prepares)
{
	int status = -1;
	pid_t child;

	memset(shared, 0, sizeof *shared);
	child = fork();
	if (!child)
		unload(prepares);
	while (!__atomic_load_n(&shared->is_unloaded, __ATOMIC_ACQUIRE)) {
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
		sched_yield();
	}
	kill(child, SIGUSR1);
	CHECK_IS(waitpid(child, &status, 0), child);
	return status;
}

static void a_prepared_thread_lives(void)
{
	CHECK_IS(unloaded(1), 0);
}

static void broken_without_the_call(void)
{
	int status = unloaded(0);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* Nothing to clear, and nothing changed. */
static void nobody_is_refused(void)
{
	rseq_rt_area other = RSEQ_RT_AREA_INIT, before = other;

	CHECK_IS(rseq_rt_prepare_unload(NULL), -EFAULT);
	CHECK_IS(rseq_rt_prepare_unload((const rseq_rt_area *)((const char *)&other + 4)), -EINVAL);
	CHECK_IS(rseq_rt_prepare_unload(&other), 0);
	CHECK_IS(memcmp(&other, &before, sizeof other), 0);
}

static int own_add(struct rseq *rseq, struct rseq_rt_slots in)
{
	return rseq_rt_percpu_add(rseq, in, 0, 1);
}

/* Neither changes the kernel's descriptor pointer. */
static void under_a_loan_and_behind_the_exit_hook(void)
{
	struct rseq *rseq = rseq_rt_current(&area);
	int token;

	run_section(own_add, rseq);
	token = rseq_rt_vfork_begin(&area);
	CHECK_IS(rseq_rt_prepare_unload(&area), 0);
	CHECK_IS(*descriptor(rseq), 0);
	CHECK_IS(rseq_rt_vfork_end(&area, token), 0);

	run_section(own_add, rseq);
	CHECK_IS(rseq_rt_on_thread_exit(&area, RSEQ_RT_KEEP), RSEQ_RT_KEPT);
	CHECK_IS(rseq_rt_prepare_unload(&area), 0);
	CHECK_IS(*descriptor(rseq), 0);
}

int main(void)
{
	size_t count = rseq_rt_cpu_bound();
	void *storage = mmap(NULL, count * RSEQ_RT_SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK_IS(rseq_rt_slots_init(&slots, storage, RSEQ_RT_SLOT_SIZE, count), 0);
	CHECK_IS(rseq_rt_init(auxv()), 0);
	CHECK_IS(rseq_rt_on_thread_create(&area), 0);
	rseq_rt_allow_sections();
	RUN(nobody_is_refused);
	/* A machine without rseq: no section runs, and nothing is left behind. */
	if (!rseq_rt_current(&area))
		return failures != 0;
	RUN(a_prepared_thread_lives);
	RUN(broken_without_the_call);
	RUN(under_a_loan_and_behind_the_exit_hook);
	return failures != 0;
}
