/*
 * What a shared library compiles into itself; rseq_rt_library.h says how and why.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rseq_rt_library.h"

#if defined RSEQ_RT_LIBRARY_DYNAMIC && defined __GLIBC__
#error "dynamic TLS: glibc may free it under a running thread, and loads initial-exec TLS with dlopen"
#endif

/*
 * The thread's area, cpu_id -1: a reader of __rseq_* looks at it before the thread is registered.
 * Initial-exec: at one distance from the thread pointer in every thread, and never allocated late.
 */
static __thread rseq_rt_area area
#ifndef RSEQ_RT_LIBRARY_DYNAMIC
	__attribute__((__tls_model__("initial-exec")))
#endif
	= { { 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff } };

static const char *thread_pointer(void)
{
#ifdef __x86_64__
	/* GCC has the builtin from version 11 on. */
	const char *self;
	__asm__ __volatile__("mov %%fs:0, %0" : "=r"(self));
	return self;
#else
	return __builtin_thread_pointer();
#endif
}

#if defined RSEQ_RT_LIBRARY_DYNAMIC || defined RSEQ_RT_LIBRARY_NO_EXPORT
/* rseq_rt.h declares them; absent where no libc owns rseq and no other library exports it. */
#pragma weak __rseq_offset
#define OFFSET __rseq_offset

static void say_what_the_libc_says(void)
{
}

static void export_area(void)
{
}
#else
/*
 * Ours, under names that do not clash with the const ones of readers. Preemptible: the ones
 * that count are the first in the scope, or in a program's .bss where it took a copy.
 * The version is asked for here, so that nobody can forget the script and hide glibc's.
 */
#define EXPORTED __attribute__((__visibility__("default")))
extern EXPORTED ptrdiff_t trio_offset __asm__("__rseq_offset");
extern EXPORTED unsigned trio_size __asm__("__rseq_size");
extern EXPORTED unsigned trio_flags __asm__("__rseq_flags");
ptrdiff_t trio_offset = 0;
unsigned trio_size = 0;
unsigned trio_flags = 0;
__asm__(".symver __rseq_offset, __rseq_offset@@@RSEQ_RT_1");
__asm__(".symver __rseq_size, __rseq_size@@@RSEQ_RT_1");
__asm__(".symver __rseq_flags, __rseq_flags@@@RSEQ_RT_1");
#define OFFSET trio_offset

/* Another thread may be reading: whoever sees the size sees the offset. */
static void publish(ptrdiff_t offset, unsigned size, unsigned flags)
{
	if (__atomic_load_n(&trio_size, __ATOMIC_RELAXED) != 0)
		return;
	__atomic_store_n(&trio_flags, flags, __ATOMIC_RELAXED);
	__atomic_store_n(&trio_offset, offset, __ATOMIC_RELAXED);
	__atomic_store_n(&trio_size, size, __ATOMIC_RELEASE);
}

static int said;

static void say_what_the_libc_says(void)
{
	const ptrdiff_t *offset = NULL;
	const unsigned *size = NULL, *flags = NULL;
	if (__atomic_load_n(&said, __ATOMIC_ACQUIRE))
		return;
#ifdef __GLIBC__
	/*
	 * By their version, whatever stands before them in the scope: this ignores symbols without one. A
	 * reference to __rseq_size@GLIBC_2.35 would not do: GNU ld quietly resolves it to the definition above.
	 */
	offset = dlvsym(RTLD_DEFAULT, "__rseq_offset", "GLIBC_2.35");
	size = dlvsym(RTLD_DEFAULT, "__rseq_size", "GLIBC_2.35");
	flags = dlvsym(RTLD_DEFAULT, "__rseq_flags", "GLIBC_2.35");
#else
	/* A musl that registers: musl knows no versions, and stands last in the scope. By this name it finds itself. */
	void *libc = dlopen("libc.so", RTLD_NOW | RTLD_NOLOAD);
	if (libc) {
		offset = dlsym(libc, "__rseq_offset");
		size = dlsym(libc, "__rseq_size");
		flags = dlsym(libc, "__rseq_flags");
	}
#endif
	if (offset && size && flags && *size != 0)
		publish(*offset, *size, *flags);
	/* A name that was not found left an error, which the program would take for one of its own. */
	(void)dlerror();
	/*
	 * Last: who sees it need not look, nor take the loader's lock where an allocator asks. Twice at once does no harm,
	 * since both write the same.
	 */
	__atomic_store_n(&said, 1, __ATOMIC_RELEASE);
}

static void export_area(void)
{
	ptrdiff_t offset = (const char *)&area - thread_pointer();
	publish(offset, rseq_rt_feature_size(), 0);
}
#endif

/* Or the pid of the process in which a thread is at it. */
enum { PREPARED = -1, NOT_PREPARED = 0 };
static int process;
static pthread_key_t leaving;

/* In the last round, since any destructor of an earlier one may still use rseq. */
static void leave(void *round)
{
	static const unsigned long all = ~0UL;
	unsigned long before = 0;
	int masked;
	if ((intptr_t)round < PTHREAD_DESTRUCTOR_ITERATIONS &&
	    pthread_setspecific(leaving, (void *)((intptr_t)round + 1)) == 0)
		return;
	/* The kernel's set: the libc's leaves out the signals that it keeps for itself. */
	masked = syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all) == 0;
	/* Also where the mask was refused: a handler that comes now finds the thread exiting, and registers nothing. */
	(void)rseq_rt_on_thread_exit_masked(&area, RSEQ_RT_RELEASE);
	if (masked)
		syscall(SYS_rt_sigprocmask, 2, &before, NULL, sizeof all);
}

/* Once. Who comes in the middle of it goes without this time: waiting is not for a signal handler. */
static int prepare(void)
{
	int state = __atomic_load_n(&process, __ATOMIC_ACQUIRE), self;
	unsigned long auxv[6] = { 27, 0, 28, 0, 0, 0 };	/* AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN, AT_NULL */
	if (state == PREPARED)
		return 1;
	self = getpid();
	/*
	 * Another pid is that of a parent, forked in the middle: its thread is not here to come to an end. The child begins
	 * anew, with a second key at worst. Only between the stores of rseq_rt_init nothing helps: that child goes without.
	 */
	if (state == self || !__atomic_compare_exchange_n(&process, &state, self, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
		return state == PREPARED;
	if (pthread_key_create(&leaving, leave) != 0) {
		__atomic_store_n(&process, NOT_PREPARED, __ATOMIC_RELEASE);
		return 0;
	}
	/* A constructor that asks may come before ours: that of a library which the owner needs, say. */
	say_what_the_libc_says();
	auxv[1] = getauxval(auxv[0]);
	auxv[3] = getauxval(auxv[2]);
	/*
	 * It looks at __rseq_size: at the one that this library exports too, which says what glibc says, or where a
	 * library of another version is at work. An absent auxv entry reads 0, which is no size and no alignment.
	 */
	rseq_rt_init(auxv[1] && auxv[3] ? auxv : NULL);
	__atomic_store_n(&process, PREPARED, __ATOMIC_RELEASE);
	return 1;
}

/*
 * musl disables cancellation before it runs a thread's destructors, and a thread that first asks in one of them may not
 * be swept again. Those that it runs on a SIGEV_THREAD timer's thread after each notification it does not announce:
 * docs/several-users.md has that limit.
 */
static int may_be_leaving(void)
{
#ifdef __GLIBC__
	/* The memory outlives the kernel's last store to it: it is reused only after clear-tid. */
	return 0;
#else
	int before;
	if (pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before) != 0)
		return 1;
	pthread_setcancelstate(before, NULL);
	return before != PTHREAD_CANCEL_ENABLE;
#endif
}

static int ensure(void)
{
	int state = rseq_rt_thread_state(&area), owner;
	if (state != RSEQ_RT_UNREGISTERED)
		return state;
	if (!prepare())
		return RSEQ_RT_UNREGISTERED;
	owner = rseq_rt_owner();
	if (owner == RSEQ_RT_OWNER_UNDECIDED || owner == RSEQ_RT_OWNER_RUNTIME) {
		/* First the way out. */
		if (may_be_leaving() || pthread_setspecific(leaving, (void *)1) != 0)
			return RSEQ_RT_UNREGISTERED;
	}
	state = rseq_rt_ensure_registered(&area);
	if (state == RSEQ_RT_REGISTERED)
		export_area();
	return state >= 0 ? state : RSEQ_RT_UNREGISTERED;
}

static int state(void)
{
	return rseq_rt_thread_state(&area);
}

static int cpu(void)
{
	return rseq_rt_cpu(&area);
}

static const void *thread_area(void)
{
	const char *foreign;
	switch (rseq_rt_thread_state(&area)) {
	case RSEQ_RT_REGISTERED:
		return &area;
	case RSEQ_RT_REGISTERED_BY_LIBC:
		foreign = thread_pointer() + OFFSET;
		/* cpu_id: the owner may not have come to this thread. */
		return *(const volatile int *)(foreign + 4) >= 0 ? foreign : NULL;
	default:
		return NULL;
	}
}

/* Weak, or an optimiser that knows no preemption reads the pointers out of its own copy. */
extern const struct rseq_rt_library rseq_rt_library_v1 __attribute__((__weak__, __visibility__("default")));
const struct rseq_rt_library rseq_rt_library_v1 = {
	sizeof(struct rseq_rt_library), ensure, state, cpu, thread_area, rseq_rt_feature_size, rseq_rt_owner,
};

/*
 * Now, so that who depends on this library never reads 0 where the libc owns; and before the library's own
 * constructors, which may read too. The rest waits until it is wanted.
 */
__attribute__((__constructor__(101))) static void start(void)
{
	say_what_the_libc_says();
}
