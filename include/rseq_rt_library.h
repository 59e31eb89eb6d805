/*
 * rseq_rt_library.h - restartable sequences for a shared library, beside other
 * libraries, under a libc that may or may not register rseq itself.
 *
 * A library cannot call hooks: threads are born and die behind its back. So it
 * asks for the calling thread when it needs it, and the thread leaves by itself.
 *
 * How copies share. Each library of this form has the code, an area in its
 * initial-exec TLS, and one exported symbol, rseq_rt_library_v2, which points to its table.
 * The dynamic linker binds all of them to the first one in the global scope:
 * one owner, one area and one flag per thread, and nothing to count. The
 * pointer is bound as data, when a library is loaded and never again, so that no copy
 * uses half of one owner and half of another. A program may get a copy of the
 * pointer (a copy relocation), and never of the table, which can therefore grow. A
 * later version of the interface has another pointer; two versions meet as strangers do, through __rseq_*.
 *   A copy that cannot see the owner (loaded with RTLD_LOCAL, say) is an owner of
 * its own that comes too late: the kernel refuses its areas on the threads that another one has, the
 * state is RSEQ_RT_UNAVAILABLE with EBUSY, and it works on without rseq there.
 *
 * Its exports for readers that know only __rseq_offset and __rseq_size: these,
 * with glibc's meaning, as soon as a thread is registered; offset first, size last.
 * They carry the version RSEQ_RT_1 and so never stand before glibc's own,
 * GLIBC_2.35, for anybody who was linked with those. Where glibc owns rseq,
 * they say what glibc's say, from the library's constructor on.
 *     linked with           musl           glibc, off           glibc, on
 *     the libc alone        the owner's    glibc's: size 0      glibc's
 *     a library like this   the owner's    the owner's          glibc's, by value
 * Under a musl that registers and exports them itself they say what that one's say.
 * Who reads them looks at cpu_id too: it is negative on a thread that nobody
 * has registered yet, or no more.
 *
 * Where librseq is loaded too and no libc owns rseq, librseq has it, and this library goes without: librseq
 * aborts the process when it finds a thread registered.
 *
 * Under glibc a thread stays registered to its end, as with glibc's own registration: its memory is
 * reused only after clear-tid. Under musl it leaves in the last round of its TSD destructors: musl
 * unmaps the area of a detached thread while it still runs, and the kernel kills
 * whoever has it registered then. After that nothing registers the thread again.
 *
 * To use it: compile rseq_rt_library.c into the library with -fPIC, link librseq_rt.a,
 * and link with what pkg-config says for rseq_rt_library:
 *     -Wl,-z,nodelete            its code must outlive every thread that was registered
 *     -Wl,--version-script=...   RSEQ_RT_1. Without it the link fails, on purpose
 *     -ldl -pthread              rseq_rt_library.c calls dlvsym(3), and under musl pthread_key_create(3); a glibc before
 *                                2.34 has dlvsym(3) in a library of its own. librseq_rt.a calls no libc
 *
 *     $ cc -fPIC -O2 -c counter.c $(pkg-config --variable=source rseq_rt_library) \
 *           $(pkg-config --cflags rseq_rt_library)
 *     $ cc -shared -o libcounter.so counter.o rseq_rt_library.o $(pkg-config --libs rseq_rt_library)
 *
 *     // counter.c: one counter per CPU
 *     #include "rseq_rt_library.h"
 *     static struct { long n; char pad[56]; } counters[1024];
 *     void counter_add(long n)
 *     {
 *             int cpu;
 *             rseq_rt_library_ensure();       // the first time on a thread it registers, later it looks
 *             cpu = rseq_rt_library_cpu();    // a load where registered, else getcpu(2)
 *             if (cpu < 0)
 *                     cpu = 0;
 *             __atomic_fetch_add(&counters[cpu % 1024].n, n, __ATOMIC_RELAXED);
 *     }
 *
 * Compile rseq_rt_library.c without link-time optimisation: it names versions of symbols. With
 *     -DRSEQ_RT_LIBRARY_NO_EXPORT   it defines no __rseq_*: for a program, or an archive
 *                                   that ends in one. The table is shared as before where
 *                                   the program exports it (-rdynamic). Such a program is linked with what
 *                                   pkg-config says for rseq_rt, and -pthread: no version script, no -ldl.
 *     -DRSEQ_RT_LIBRARY_DYNAMIC     the area lies in dynamic TLS, and no __rseq_* is defined: for
 *                                   a plugin under musl, which refuses initial-exec TLS in dlopen(3).
 *                                   Not under glibc, where initial-exec works and dynamic TLS may be
 *                                   freed under a running thread.
 *     -DRSEQ_RT_LIBRARY_NO_AREA     no area and no TLS: for a plugin that is one of many, under glibc, whose reserve of
 *                                   static TLS ends after 13 areas. It registers nobody: it uses the libc's
 *                                   registration where the libc owns rseq, and goes without elsewhere. It shares
 *                                   nothing with others, and is linked with what pkg-config says for rseq_rt.
 *
 * Not in a child of vfork(2): it shares the flag and not the registration.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_RT_LIBRARY_H
#define RSEQ_RT_LIBRARY_H

#include "rseq_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Version 2, as the symbol says. The calls are on the calling thread. Fields are only ever added at the end, and
 * a caller that wants one of those looks at size first: the owner may be older.
 */
struct rseq_rt_library {
	size_t size;	/* bytes of this structure, as the owner has it */
	int (*ensure)(void);
	int (*state)(void);
	int (*cpu)(void);
	const void *(*area)(void);
	unsigned (*feature_size)(void);
	int (*owner)(void);
};

/* That of the first one in the global scope. */
extern const struct rseq_rt_library *const rseq_rt_library_v2;

/*
 * Registers the calling thread if nobody has tried yet. Returns its state, RSEQ_RT_*; RSEQ_RT_UNREGISTERED
 * means "not now": the owner's constructor has not run, another thread is deciding for the process, or, under another
 * libc than glibc, the thread has cancellation disabled, as one in its TSD destructors has. RSEQ_RT_UNAVAILABLE is also the
 * state of each thread where librseq is loaded, or where, under another libc than glibc, no thread key was left when the
 * owner was loaded; the owner is RSEQ_RT_OWNER_NOBODY then.
 *   Costs: 3 system calls the first time, then a load. Allocates nothing and takes no lock, so that an allocator may
 * ask at any time. Async-signal-safe under glibc and musl.
 */
static __inline__ int rseq_rt_library_ensure(void)
{
	return rseq_rt_library_v2->ensure();
}

/* The state, without registering. Costs: 0. Async-signal-safe, as all that follow. */
static __inline__ int rseq_rt_library_state(void)
{
	return rseq_rt_library_v2->state();
}

/* The CPU, a moment old; -errno where getcpu(2) is refused. Costs: 0 on a registered thread, else 1. */
static __inline__ int rseq_rt_library_cpu(void)
{
	return rseq_rt_library_v2->cpu();
}

/*
 * The struct rseq of the calling thread, the owner's or the libc's; null unless registered. For
 * critical sections: of all its fields the caller stores to rseq_cs alone.
 */
static __inline__ const void *rseq_rt_library_area(void)
{
	return rseq_rt_library_v2->area();
}

/* Bytes of it that hold valid fields; 0 while nothing is registered. */
static __inline__ unsigned rseq_rt_library_feature_size(void)
{
	return rseq_rt_library_v2->feature_size();
}

/* RSEQ_RT_OWNER_*, as the first in the global scope sees it. */
static __inline__ int rseq_rt_library_owner(void)
{
	return rseq_rt_library_v2->owner();
}

#ifdef __cplusplus
}
#endif

#endif
