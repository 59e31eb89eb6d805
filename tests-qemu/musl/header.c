/* A program that uses rseq only by <sys/rseq.h>, in C99 or C++98: the area of two threads, as the kernel knows it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/rseq.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cpus.h"

#define KERNEL_LENGTH 32

#define CHECK(what) do { if (!(what)) return __LINE__; } while (0)

static volatile struct rseq *area(void)
{
	return (volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static int look(void)
{
	struct cpus all;
	unsigned length = __rseq_size > KERNEL_LENGTH ? __rseq_size : KERNEL_LENGTH;
	int cpu;
	CHECK((uintptr_t)area() % KERNEL_LENGTH == 0);
	/* The kernel compares address, length and signature before it answers that the thread is registered. */
	CHECK(syscall(SYS_rseq, area(), length, 0, RSEQ_SIG + 1) == -1 && errno == EPERM);
	CHECK(syscall(SYS_rseq, area(), length, 0, RSEQ_SIG) == -1 && errno == EBUSY);
	CHECK(allowed_cpus(&all) == 0);
	for (cpu = 0; cpu < CPUS; cpu++) {
		if (!has_cpu(&all, cpu))
			continue;
		CHECK(move_to_cpu(0, cpu) == 0);
		CHECK(area()->cpu_id == (uint32_t)cpu && area()->cpu_id_start == (uint32_t)cpu);
	}
	CHECK(area()->rseq_cs == 0);
	return 0;
}

static void *life(void *argument)
{
	*(int *)argument = look();
	return 0;
}

int main(void)
{
	pthread_t thread;
	int line = -1;
	if (syscall(SYS_rseq, 0, 0, 0, 0) == -1 && errno == ENOSYS) {
		CHECK(__rseq_size == 0 && area()->cpu_id == (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED);
		puts("there is no rseq(2) here");
		return 0;
	}
	CHECK(offsetof(struct rseq, cpu_id_start) == 0 && offsetof(struct rseq, cpu_id) == 4);
	CHECK(offsetof(struct rseq, rseq_cs) == 8 && offsetof(struct rseq, flags) == 16);
	CHECK(sizeof(struct rseq_cs) == 32 && offsetof(struct rseq_cs, abort_ip) == 24);
	CHECK(__rseq_size >= 20 && __rseq_flags == 0);
	line = look();
	if (line)
		return line;
	CHECK(pthread_create(&thread, 0, life, &line) == 0 && pthread_join(thread, 0) == 0);
	return line;
}
