/*
 * Source for a shared library to compile in; rseq_rt_library.h says how and why.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rseq_rt_library.h"

#if defined RSEQ_RT_LIBRARY_DYNAMIC && defined __GLIBC__
#error "dynamic TLS: glibc may free it under a running thread, and loads initial-exec TLS with dlopen"
#endif

#if defined RSEQ_RT_LIBRARY_NO_AREA
/* One for all threads: nothing is registered, so every thread has the same state. */
#define PER_THREAD static
#define EXPORTS 0
#elif defined RSEQ_RT_LIBRARY_DYNAMIC
#define PER_THREAD static __thread
#define EXPORTS 0
#else
/* Initial-exec: at a fixed distance from the thread pointer in every thread, and never allocated late. */
#define PER_THREAD static __thread __attribute__((__tls_model__("initial-exec")))
#ifdef RSEQ_RT_LIBRARY_NO_EXPORT
#define EXPORTS 0
#else
#define EXPORTS 1
#endif
#endif

/* The thread's area, cpu_id -1: a reader of __rseq_* may look at it before the thread is registered. */
PER_THREAD rseq_rt_area area = { { 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff } };

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

#if !EXPORTS
/* Null if no libc owns rseq and no other library exports them, or if the program's linker dropped them. */
extern const ptrdiff_t __rseq_offset __attribute__((__weak__));
extern const unsigned int __rseq_size __attribute__((__weak__));
extern const unsigned int __rseq_flags __attribute__((__weak__));
#define OFFSET __rseq_offset
#define OFFSET_IS_KNOWN (&__rseq_offset != NULL)
#define THERE (&__rseq_offset && &__rseq_size && &__rseq_flags)
#define SIZE (THERE ? *(const volatile unsigned *)&__rseq_size : 0)

static void say_what_the_libc_says(void)
{
}

static void export_area(void)
{
}
#else
/*
 * This library's variables, under names that do not clash with the const ones of readers. Preemptible: the effective
 * ones are the first in the scope, or in a program's .bss if it made a copy. The version is requested here, so that
 * nobody can forget the script and hide glibc's.
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
#define OFFSET_IS_KNOWN 1
#define SIZE __atomic_load_n(&trio_size, __ATOMIC_ACQUIRE)

/* Another thread may be reading: a reader that sees the size also sees the offset. */
static void publish(ptrdiff_t offset, unsigned size, unsigned flags)
{
	if (__atomic_load_n(&trio_size, __ATOMIC_RELAXED) != 0)
		return;
	__atomic_store_n(&trio_flags, flags, __ATOMIC_RELAXED);
	__atomic_store_n(&trio_offset, offset, __ATOMIC_RELAXED);
	__atomic_store_n(&trio_size, size, __ATOMIC_RELEASE);
}

/* In a constructor only: the functions called here take the loader's lock, and allocate for an error. */
static void say_what_the_libc_says(void)
{
	const ptrdiff_t *offset = NULL;
	const unsigned *size = NULL, *flags = NULL;
#ifdef __GLIBC__
	/*
	 * By their version, whatever precedes them in the scope: this ignores symbols without one. A reference to
	 * __rseq_size@GLIBC_2.35 would not work: GNU ld silently resolves it to the definition above.
	 */
	offset = dlvsym(RTLD_DEFAULT, "__rseq_offset", "GLIBC_2.35");
	size = dlvsym(RTLD_DEFAULT, "__rseq_size", "GLIBC_2.35");
	flags = dlvsym(RTLD_DEFAULT, "__rseq_flags", "GLIBC_2.35");
#else
	/* A musl that registers: musl ignores versions, and is last in the scope. This name finds musl itself. */
	void *libc = dlopen("libc.so", RTLD_NOW | RTLD_NOLOAD);
	if (libc) {
		offset = dlsym(libc, "__rseq_offset");
		size = dlsym(libc, "__rseq_size");
		flags = dlsym(libc, "__rseq_flags");
	}
#endif
	if (offset && size && flags && *size != 0)
		publish(*offset, *size, *flags);
	/* A name that was not found leaves an error, which the program would take for its own. */
	(void)dlerror();
}

static void export_area(void)
{
	ptrdiff_t offset = (const char *)&area - thread_pointer();
	publish(offset, rseq_rt_feature_size(), 0);
}
#endif

/*
 * librseq takes rseq wherever no libc does, and aborts the process when it then finds a thread registered. So wherever
 * it is loaded, rseq is left to it. Registering before librseq looks for another owner would not work: the libc decides
 * which constructor runs first, and threads that use only librseq would then not be registered at all.
 */
extern int rseq_register_current_thread(void) __attribute__((__weak__));

static int librseq_is_there(void)
{
	return rseq_register_current_thread != NULL;
}

#if defined RSEQ_RT_LIBRARY_NO_AREA
static int prepare_way_out(void)
{
	return 0;
}

static int find_way_out(void)
{
	return 1;
}
#elif defined __GLIBC__
/*
 * No exit handler is needed: a thread's static TLS is reused or unmapped after clear-tid, and so after the kernel's last
 * store to it. A thread-specific value would do harm: setting it may allocate, and the caller may be an allocator. A copy
 * in a namespace of its own (dlmopen) would set the program's value, since each glibc counts its keys from 0.
 */
static int prepare_way_out(void)
{
	return 1;
}

static int find_way_out(void)
{
	return 1;
}
#else
static int has_key;
static pthread_key_t leaving;

/* In the last round, since any destructor of an earlier one may still use rseq. */
static void leave(void *round)
{
	static const unsigned long all = ~(1UL << (SIGSYS - 1));
	unsigned long before = 0;
	int masked;
	if ((intptr_t)round < PTHREAD_DESTRUCTOR_ITERATIONS &&
	    pthread_setspecific(leaving, (void *)((intptr_t)round + 1)) == 0)
		return;
	/* The kernel's set: the libc's omits the signals that it reserves. SIGSYS stays open for a filter that traps. */
	masked = syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all) == 0;
	/* Also if the mask was refused: a handler that runs now finds the thread exiting, and registers nothing. */
	(void)rseq_rt_on_thread_exit_masked(&area, RSEQ_RT_RELEASE);
	if (masked)
		syscall(SYS_rt_sigprocmask, 2, &before, NULL, sizeof all);
}

/* Not key 0: a program that deletes a key that it never created, from a zeroed static variable, deletes key 0. */
static int prepare_way_out(void)
{
	pthread_key_t first;
	if (pthread_key_create(&leaving, leave) != 0)
		return 0;
	if (leaving == 0) {
		first = leaving;
		if (pthread_key_create(&leaving, leave) != 0)
			leaving = first;
		else
			pthread_key_delete(first);
	}
	has_key = 1;
	return 1;
}

/*
 * musl disables cancellation before it runs a thread's destructors, and after a first use in one of them this library's
 * destructor may not run any more. musl does not disable it for the destructors that it runs on a SIGEV_THREAD timer's
 * thread after each notification: docs/several-users.md describes that limit.
 */
static int may_be_leaving(void)
{
	int before;
	if (pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before) != 0)
		return 1;
	pthread_setcancelstate(before, NULL);
	return before != PTHREAD_CANCEL_ENABLE;
}

/* Setting a value is a store under musl. Elsewhere it may allocate, and the allocator may call ensure. */
PER_THREAD unsigned char finding;

static int find_way_out(void)
{
	int owner = rseq_rt_owner(), found;
	if (owner != RSEQ_RT_OWNER_UNDECIDED && owner != RSEQ_RT_OWNER_RUNTIME)
		return 1;
	/* No key, but undecided: another thread is just finding that the libc is the owner. */
	if (finding || !has_key || may_be_leaving())
		return 0;
	*(volatile unsigned char *)&finding = 1;
	found = pthread_setspecific(leaving, (void *)1) == 0;
	*(volatile unsigned char *)&finding = 0;
	return found;
}
#endif

/* The result of the constructor. */
static enum { NOT_STARTED, NO_WAY_OUT, READY } started;
static unsigned long auxv[6] = { 27, 0, 28, 0, 0, 0 };	/* AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN, AT_NULL */

/*
 * Once. A call during it goes without rseq that time, since a signal handler cannot wait. A child that another thread
 * forks during it goes without for ever.
 */
static int prepare(void)
{
	int how = __atomic_load_n(&started, __ATOMIC_ACQUIRE), may;
	if (how != NOT_STARTED && rseq_rt_owner() == RSEQ_RT_OWNER_UNDECIDED) {
		/*
		 * This reads __rseq_size, which may be this library's own: it has the value of glibc's, or that of a library of
		 * another version. Another owner ends its registrations itself; without a way to end them, no thread is registered.
		 */
		may = SIZE != 0 || (!librseq_is_there() && how == READY);
		/* An absent auxv entry reads 0, which is not a valid size or alignment. */
		rseq_rt_init_flags(auxv[1] && auxv[3] ? auxv : NULL, may ? 0 : RSEQ_RT_DISABLED);
	}
	return how != NOT_STARTED;
}

static int ensure(void)
{
	int state = rseq_rt_thread_state(&area);
	if (state != RSEQ_RT_UNREGISTERED)
		return state;
	/* First make sure that the registration will end. */
	if (!prepare() || !find_way_out())
		return RSEQ_RT_UNREGISTERED;
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
		if (!OFFSET_IS_KNOWN)
			return NULL;
		foreign = thread_pointer() + OFFSET;
		/* cpu_id: the owner may not have registered this thread. */
		return *(const volatile int *)(foreign + 4) >= 0 ? foreign : NULL;
	default:
		return NULL;
	}
}

static const struct rseq_rt_library table = {
	sizeof(struct rseq_rt_library), ensure, state, cpu, thread_area, rseq_rt_feature_size, rseq_rt_owner,
};

extern const struct rseq_rt_library *const rseq_rt_library_v2
#ifdef RSEQ_RT_LIBRARY_NO_AREA
	__attribute__((__weak__, __visibility__("hidden")));
#else
	__attribute__((__weak__, __visibility__("default")));
#endif
const struct rseq_rt_library *const rseq_rt_library_v2 = &table;

/* By a pointer to volatile: a compiler would use a constant's initializer, and does not know symbol preemption. */
static int is_owner(void)
{
	return *(const struct rseq_rt_library *const volatile *)&rseq_rt_library_v2 == &table;
}

/*
 * Before the library's own constructors, which may call ensure. A library that depends on this one never reads 0 where
 * the libc owns rseq. Everything that may allocate or take a lock is done here, and not in a thread's call.
 */
__attribute__((__constructor__(101))) static void start(void)
{
	say_what_the_libc_says();
	if (!is_owner())
		return;	/* the calls reach another copy */
	auxv[1] = getauxval(auxv[0]);
	auxv[3] = getauxval(auxv[2]);
	__atomic_store_n(&started, (SIZE != 0 || prepare_way_out()) ? READY : NO_WAY_OUT, __ATOMIC_RELEASE);
#ifdef RSEQ_RT_LIBRARY_NO_AREA
	/* The one state, before there is a second thread to ask for it. */
	ensure();
#endif
}
