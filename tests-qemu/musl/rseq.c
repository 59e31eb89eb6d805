#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cpus.h"
#include "rseq.h"
#include "test.h"

#if defined(__x86_64__)
#define SIGNATURE 0x53053053
#elif defined(__aarch64__)
#define SIGNATURE 0xd428bc00
#elif defined(__riscv)
#define SIGNATURE 0xf1401073
#endif

#ifndef SYS_rseq
#define SYS_rseq __NR_rseq
#endif

#define AT_RSEQ_FEATURE_SIZE 27

int constructed;

void look_from_constructor(const char *where)
{
	constructed++;
	if (!getenv(QUIET))
		registered(where);
}

__attribute__((__constructor__(101))) static void first(void)
{
	look_from_constructor("the first constructor");
}

__attribute__((__constructor__)) static void later(void)
{
	look_from_constructor("a constructor");
}

struct trio trio_now(void)
{
	struct trio trio = { __rseq_offset, __rseq_size, __rseq_flags };
	return trio;
}

static char *area(void)
{
	return (char *)__builtin_thread_pointer() + __rseq_offset;
}

int cpu_id(void)
{
	return *(volatile int *)(area() + 4);
}

int cpu_by_call(void)
{
	unsigned cpu = 0;
	return syscall(SYS_getcpu, &cpu, NULL, NULL) ? -errno : (int)cpu;
}

int kernel_has_rseq(void)
{
	return syscall(SYS_rseq, NULL, 0, 0, 0) == -1 && errno != ENOSYS;
}

/* Bytes of valid fields, as the kernel reports them. */
static unsigned features(void)
{
	unsigned long said = getauxval(AT_RSEQ_FEATURE_SIZE);
	return said ? said : 20;
}

void registered_now(const char *where)
{
	int before = errno;
	unsigned length = __rseq_size > 32 ? __rseq_size : 32;
	if (!kernel_has_rseq()) {
		if (__rseq_size != 0 || cpu_id() != -2)
			fail(__FILE__, __LINE__, "%s: no rseq(2), and yet size %u, cpu_id %d", where, __rseq_size, cpu_id());
		errno = before;
		return;
	}
#ifdef __GLIBC__
	if (__rseq_size < 20)
#else
	if (__rseq_size != features())
#endif
		fail(__FILE__, __LINE__, "%s: __rseq_size is %u, the kernel says %u", where, __rseq_size, features());
	if (__rseq_flags != 0)
		fail(__FILE__, __LINE__, "%s: __rseq_flags is %u", where, __rseq_flags);
	if (cpu_id() < 0)
		fail(__FILE__, __LINE__, "%s: cpu_id is %d", where, cpu_id());
	if (syscall(SYS_rseq, area(), length, 0, SIGNATURE) != -1 || errno != EBUSY)
		fail(__FILE__, __LINE__, "%s: the kernel does not know this area: errno %d, not EBUSY", where, errno);
	errno = before;
}

void on_each_cpu(void (*look)(const char *where, int cpu), const char *where)
{
	struct cpus all;
	int cpu, before = errno;
	if (allowed_cpus(&all) != 0) {
		fail(__FILE__, __LINE__, "%s: sched_getaffinity: errno %d", where, errno);
		return;
	}
	for (cpu = 0; cpu < CPUS; cpu++) {
		if (!has_cpu(&all, cpu))
			continue;
		if (move_to_cpu(0, cpu) != 0)
			fail(__FILE__, __LINE__, "%s: cannot move to CPU %d: errno %d", where, cpu, errno);
		else
			look(where, cpu);
	}
	allow_cpus(0, &all);
	errno = before;
}

static void by_call(const char *where, int cpu)
{
	int called = cpu_by_call(), asked = sched_getcpu();
	if (called != cpu || asked != cpu)
		fail(__FILE__, __LINE__, "%s: on CPU %d getcpu says %d, sched_getcpu %d", where, cpu, called, asked);
}

static void by_area(const char *where, int cpu)
{
	int start = *(volatile int *)area();
	if (cpu_id() != cpu || start != cpu)
		fail(__FILE__, __LINE__, "%s: on CPU %d cpu_id says %d, cpu_id_start %d", where, cpu, cpu_id(), start);
	by_call(where, cpu);
}

void registered(const char *where)
{
	registered_now(where);
	on_each_cpu(kernel_has_rseq() ? by_area : by_call, where);
}

void refused(const char *where)
{
	if (cpu_id() != -2)
		fail(__FILE__, __LINE__, "%s: cpu_id is %d, not -2", where, cpu_id());
	on_each_cpu(by_call, where);
}
