/*
 * What a shared library compiles into itself; rseq_rt_library.h says how and why.
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
/* One for all threads: nothing is registered, so that what is true of one thread is true of every other. */
#define PER_THREAD static
#define EXPORTS 0
#elif defined RSEQ_RT_LIBRARY_DYNAMIC
#define PER_THREAD static __thread
#define EXPORTS 0
#else
/* Initial-exec: at one distance from the thread pointer in every thread, and never allocated late. */
#define PER_THREAD static __thread __attribute__((__tls_model__("initial-exec")))
#ifdef RSEQ_RT_LIBRARY_NO_EXPORT
#define EXPORTS 0
#else
#define EXPORTS 1
#endif
#endif

/* The thread's area, cpu_id -1: a reader of __rseq_* looks at it before the thread is registered. */
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
/* Absent where no libc owns rseq and no other library exports it, or where the program's linker lost them. */
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
#define OFFSET_IS_KNOWN 1
#define SIZE __atomic_load_n(&trio_size, __ATOMIC_ACQUIRE)

/* Another thread may be reading: whoever sees the size sees the offset. */
static void publish(ptrdiff_t offset, unsigned size, unsigned flags)
{
	if (__atomic_load_n(&trio_size, __ATOMIC_RELAXED) != 0)
		return;
	__atomic_store_n(&trio_flags, flags, __ATOMIC_RELAXED);
	__atomic_store_n(&trio_offset, offset, __ATOMIC_RELAXED);
	__atomic_store_n(&trio_size, size, __ATOMIC_RELEASE);
}

/* In a constructor, and nowhere else: what it calls takes the loader's lock, and allocates for an error. */
static void say_what_the_libc_says(void)
{
	const ptrdiff_t *offset = NULL;
	const unsigned *size = NULL, *flags = NULL;
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
}

static void export_area(void)
{
	ptrdiff_t offset = (const char *)&area - thread_pointer();
	publish(offset, rseq_rt_feature_size(), 0);
}
#endif

/*
 * librseq takes rseq wherever no libc does, and aborts the process when it then finds a thread registered. So it has it where
 * it is loaded. Registering before it looks for another owner would not do: which constructor comes first is the libc's
 * affair, and threads that ask librseq alone would then be registered by nobody.
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
 * None is needed: a thread's static TLS is reused or unmapped after clear-tid, and so after the kernel's last store to it.
 * And a thread-specific value would be harmful: setting it may allocate, and an allocator may be the one who asks; and a copy
 * in a namespace of its own (dlmopen) would set the program's, since each glibc counts its keys from 0.
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
	/* The kernel's set: the libc's leaves out the signals that it keeps for itself. SIGSYS is for a filter that traps. */
	masked = syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all) == 0;
	/* Also where the mask was refused: a handler that comes now finds the thread exiting, and registers nothing. */
	(void)rseq_rt_on_thread_exit_masked(&area, RSEQ_RT_RELEASE);
	if (masked)
		syscall(SYS_rt_sigprocmask, 2, &before, NULL, sizeof all);
}

/* Not key 0, which is what somebody deletes who has never created the one in his static variable. */
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
 * musl disables cancellation before it runs a thread's destructors, and a thread that first asks in one of them may not
 * be swept again. Those that it runs on a SIGEV_THREAD timer's thread after each notification it does not announce:
 * docs/several-users.md has that limit.
 */
static int may_be_leaving(void)
{
	int before;
	if (pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before) != 0)
		return 1;
	pthread_setcancelstate(before, NULL);
	return before != PTHREAD_CANCEL_ENABLE;
}

/* Setting a value is a store under musl. Elsewhere it may allocate, and the allocator may ask. */
PER_THREAD unsigned char finding;

static int find_way_out(void)
{
	int owner = rseq_rt_owner(), found;
	if (owner != RSEQ_RT_OWNER_UNDECIDED && owner != RSEQ_RT_OWNER_RUNTIME)
		return 1;
	/* No key, and yet undecided: another thread is finding the libc that owns. */
	if (finding || !has_key || may_be_leaving())
		return 0;
	*(volatile unsigned char *)&finding = 1;
	found = pthread_setspecific(leaving, (void *)1) == 0;
	*(volatile unsigned char *)&finding = 0;
	return found;
}
#endif

/* What the constructor has left. */
static enum { NOT_STARTED, NO_WAY_OUT, READY } started;
static unsigned long auxv[6] = { 27, 0, 28, 0, 0, 0 };	/* AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN, AT_NULL */

/*
 * Once. Who comes in the middle of it goes without this time: waiting is not for a signal handler. A child that another
 * thread forks in the middle of it goes without for ever.
 */
static int prepare(void)
{
	int how = __atomic_load_n(&started, __ATOMIC_ACQUIRE), may;
	if (how != NOT_STARTED && rseq_rt_owner() == RSEQ_RT_OWNER_UNDECIDED) {
		/*
		 * It looks at __rseq_size: at the one that this library exports too, which says what glibc says, or where a library of
		 * another version is at work. Whoever owns rseq has a way out of his own; without one nobody is registered.
		 */
		may = SIZE != 0 || (!librseq_is_there() && how == READY);
		/* An absent auxv entry reads 0, which is no size and no alignment. */
		rseq_rt_init_flags(auxv[1] && auxv[3] ? auxv : NULL, may ? 0 : RSEQ_RT_DISABLED);
	}
	return how != NOT_STARTED;
}

static int ensure(void)
{
	int state = rseq_rt_thread_state(&area);
	if (state != RSEQ_RT_UNREGISTERED)
		return state;
	/* First the way out. */
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
		/* cpu_id: the owner may not have come to this thread. */
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

/* By a pointer to volatile: a compiler takes a constant's initializer for its value, and knows no preemption. */
static int is_owner(void)
{
	return *(const struct rseq_rt_library *const volatile *)&rseq_rt_library_v2 == &table;
}

/*
 * Before the library's own constructors, which may ask. Whoever depends on this library never reads 0 where the libc owns.
 * All that may allocate or take a lock is done here, and not where a thread asks.
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
