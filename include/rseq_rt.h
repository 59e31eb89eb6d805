/*
 * rseq_rt.h - restartable sequences, rseq(2), for a libc or a runtime.
 *
 * One hook for the birth of a thread, one for its death. The memory is the
 * caller's: an area in each thread's control block, and nothing else. Nothing
 * allocates, nothing has thread-local storage, nothing touches errno.
 *
 * Functions that return int return a negative errno for misuse, and have then
 * changed nothing:
 *     -EFAULT    a null pointer
 *     -EINVAL    a misaligned pointer; no rseq_rt_init before; no create hook before; an unknown flag
 *     -EALREADY  the second rseq_rt_init; the second create hook of an area
 *     -ESRCH     the exit hook of this area has run
 *     -EBUSY     the area is lent to a vfork child, or in use; the structure is being changed
 * A pointer that is neither null nor misaligned is trusted, as everywhere in C.
 *
 * "Costs" counts system calls where this runtime owns rseq. Where a libc owns
 * it, create and keep make none, and release makes the one that blocks signals.
 * Where the kernel has no rseq, create makes none, and keep and release make that one. The
 * first registration that succeeds in a process may take up to two more attempts, once.
 *
 * Signals. "All signals" are all but SIGSYS, by the raw system call: that is how a
 * filter answers a call that it traps, and where it is blocked the kernel
 * kills instead. The hooks open it for their calls, and create restores it.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_RT_H
#define RSEQ_RT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The area begins with the kernel's struct rseq (<linux/rseq.h>), 64 bytes; the
 * rest is this library's. The word before an abort handler of a critical section
 * is RSEQ_RT_SIG, the value of librseq's and glibc's RSEQ_SIG.
 */
#if defined(__x86_64__)
#define RSEQ_RT_SIG 0x53053053u		/* the operand of ud1 (0f b9 3d) */
#elif defined(__aarch64__)
#define RSEQ_RT_SIG 0xd428bc00u		/* brk 0x45e0 */
#elif defined(__riscv)
#define RSEQ_RT_SIG 0xf1401073u		/* csrw mhartid, x0 */
#endif

#define RSEQ_RT_AREA_SIZE 128
#define RSEQ_RT_AREA_ALIGN 64
#define RSEQ_RT_AREA_CPU_ID 4	/* the kernel's cpu_id, 4 bytes */
#define RSEQ_RT_AREA_STATE 64	/* RSEQ_RT_REGISTERED only while it is, 2 bytes */
#define RSEQ_RT_AT_EXIT_SIZE 160
#define RSEQ_RT_AT_EXIT_ALIGN 8
#define RSEQ_RT_AT_EXIT_CAPACITY 8

/*
 * One thread's area. All zero is a new one, so freshly mapped memory needs no
 * initializer. Nobody else stores to it: from Linux 7.0 the kernel kills for that.
 */
typedef struct rseq_rt_area {
	unsigned char rseq_rt_opaque[RSEQ_RT_AREA_SIZE];
} __attribute__((__aligned__(64))) rseq_rt_area;

/* All zero but cpu_id, which is -1 until the kernel writes one: for those who read that field alone. */
#define RSEQ_RT_AREA_INIT { { 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff } }

/* One thread's at-exit callbacks. All zero is an empty stack. */
struct rseq_rt_at_exit {
	unsigned char rseq_rt_opaque[RSEQ_RT_AT_EXIT_SIZE];
} __attribute__((__aligned__(8)));

#define RSEQ_RT_AT_EXIT_INIT { { 0 } }

/* Who registers rseq in this process. */
enum {
	RSEQ_RT_OWNER_UNDECIDED = 0,	/* the first registration that succeeds will tell */
	RSEQ_RT_OWNER_NOBODY = 1,	/* no kernel support, or the policy */
	RSEQ_RT_OWNER_LIBC = 2,		/* a libc, or code that cannot be seen */
	RSEQ_RT_OWNER_RUNTIME = 3	/* this runtime */
};

/* The state of one thread. */
enum {
	RSEQ_RT_UNREGISTERED = 0,	/* nobody has tried */
	RSEQ_RT_REGISTERED = 1,		/* by this runtime, at this area */
	RSEQ_RT_REGISTERED_BY_LIBC = 2,	/* elsewhere, by a libc */
	RSEQ_RT_UNAVAILABLE = 3,	/* it runs without: rseq_rt_thread_errno */
	RSEQ_RT_LENT = 4,		/* between rseq_rt_vfork_begin and _end */
	RSEQ_RT_EXITING = 5		/* the exit hook has run */
};

/* The fate of the memory of a thread that exits. */
enum {
	RSEQ_RT_KEEP = 0,		/* it outlives the thread: whoever waits for clear-tid frees it */
	RSEQ_RT_RELEASE = 1		/* it goes before the thread does: unmapped, or handed to a pool */
};

/* The answers of the exit hook. */
enum {
	RSEQ_RT_RELEASED = 0,		/* no kernel writes to the area: the memory may go */
	RSEQ_RT_KEPT = 1		/* the memory must outlive the thread */
};

/* Flags of rseq_rt_init_flags. */
#define RSEQ_RT_CLAIM_RUNTIME 1u	/* the caller is the libc, or there is none: do not look for __rseq_size */
#define RSEQ_RT_DISABLED 2u		/* register nobody */
#define RSEQ_RT_LEGACY_LENGTH 4u	/* register 32 bytes even where the kernel offers more */
#define RSEQ_RT_SLICE_EXTENSION 8u	/* ask for the time-slice extension of Linux 7.0 */

/*
 * The numbers above as the library has them, for a program that wants to be
 * sure that it was compiled with the header of the library it is linked with.
 */
#define RSEQ_RT_LAYOUT { \
	RSEQ_RT_AREA_SIZE, RSEQ_RT_AREA_ALIGN, RSEQ_RT_AREA_CPU_ID, RSEQ_RT_AREA_STATE, \
	RSEQ_RT_AT_EXIT_SIZE, RSEQ_RT_AT_EXIT_ALIGN, RSEQ_RT_AT_EXIT_CAPACITY, \
	RSEQ_RT_OWNER_UNDECIDED, RSEQ_RT_OWNER_NOBODY, RSEQ_RT_OWNER_LIBC, RSEQ_RT_OWNER_RUNTIME, \
	RSEQ_RT_UNREGISTERED, RSEQ_RT_REGISTERED, RSEQ_RT_REGISTERED_BY_LIBC, \
	RSEQ_RT_UNAVAILABLE, RSEQ_RT_LENT, RSEQ_RT_EXITING, \
	RSEQ_RT_KEEP, RSEQ_RT_RELEASE, RSEQ_RT_RELEASED, RSEQ_RT_KEPT, \
	RSEQ_RT_CLAIM_RUNTIME, RSEQ_RT_DISABLED, RSEQ_RT_LEGACY_LENGTH, RSEQ_RT_SLICE_EXTENSION }
#define RSEQ_RT_LAYOUT_COUNT 25
extern const unsigned rseq_rt_layout[RSEQ_RT_LAYOUT_COUNT];

/* ---- the process ---- */

/*
 * Takes what the kernel says of rseq in auxv: pairs of words up to AT_NULL. A
 * null auxv means a kernel that says nothing: length 32, 20 bytes of fields, no
 * concurrency id. Where a libc has the vector:
 *     unsigned long v[] = { 27, getauxval(27), 28, getauxval(28), 0, 0 };
 * (AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN).
 * When: once, on the main thread, before any other function, best before a
 * second thread. Costs: 0. -EALREADY the second time.
 */
int rseq_rt_init(const unsigned long *auxv);

/* As rseq_rt_init, with RSEQ_RT_* flags. -EINVAL for an unknown one. A trio build always claims. */
int rseq_rt_init_flags(const unsigned long *auxv, unsigned flags);

/*
 * RSEQ_RT_OWNER_*. Undecided until a registration succeeds, or the kernel says that it has no rseq: a
 * thread that is refused decides nothing for the others. A libc that makes the library's data read-only does so
 * once this is decided. Costs: 0. When: any time, a signal handler included.
 */
int rseq_rt_owner(void);

/* Bytes of the owner's area that hold valid fields; 0 while nothing is registered. Costs: 0. When: any time. */
unsigned rseq_rt_feature_size(void);

/* Bytes that the registrations of this runtime state; 0 unless it is the owner. Costs: 0. When: any time. */
unsigned rseq_rt_length(void);

/*
 * Is rseq in use here, and if not, why, and what helps: five lines of text (owner, registration, thread, sections, slice
 * extension), for a log or a bug report and not to be parsed: the values have functions of their own. At most size bytes
 * are written, the last one a 0; 1024 hold any text. Returns the length of the whole text, as snprintf(3): where that is
 * not below size, the text was cut.
 * -EFAULT for a null buffer, unless size is 0. Async-signal-safe. Costs: 0. When: any time, of any thread's area.
 */
int rseq_rt_report(const rseq_rt_area *area, char *buffer, size_t size);

/* The subject of a remedy. */
enum {
	RSEQ_RT_OF_THREAD = 0,		/* its registration */
	RSEQ_RT_OF_SECTIONS = 1,	/* the process' critical sections */
	RSEQ_RT_OF_SLICE = 2		/* the thread's slice extension */
};

/* Remedies. */
enum {
	RSEQ_RT_REMEDY_NONE = 0,	/* none is needed: it is in use */
	RSEQ_RT_REMEDY_NOTHING_TO_DO = 1,	/* the libc registers the thread, or it exits, or is lent */
	RSEQ_RT_REMEDY_INITIALIZE = 2,	/* rseq_rt_init, then the create hook */
	RSEQ_RT_REMEDY_CALL_CREATE_HOOK = 3,
	RSEQ_RT_REMEDY_ALLOW_SYSCALL = 4,	/* a filter refuses rseq(2) */
	RSEQ_RT_REMEDY_KERNEL_OR_FILTER = 5,	/* ENOSYS: from 4.18 with CONFIG_RSEQ; or a filter */
	RSEQ_RT_REMEDY_FIND_OTHER = 6,	/* other code has registered the thread: LD_PRELOAD, say */
	RSEQ_RT_REMEDY_WRITABLE_AREA = 7,
	RSEQ_RT_REMEDY_LIFT_POLICY = 8,	/* RSEQ_RT_DISABLED, or a switch of the libc that embeds this */
	RSEQ_RT_REMEDY_UNKNOWN = 9,	/* rseq_rt_thread_errno */
	RSEQ_RT_REMEDY_ALLOW_SECTIONS = 10,	/* rseq_rt_allow_sections */
	RSEQ_RT_REMEDY_KERNEL_OR_PROBE = 11,	/* from 7.0.14; or the probe, which is in Rust */
	RSEQ_RT_REMEDY_OTHER_KERNEL = 12,
	RSEQ_RT_REMEDY_ASK_FOR_SLICE = 13,	/* RSEQ_RT_SLICE_EXTENSION */
	RSEQ_RT_REMEDY_LONGER_REGISTRATION = 14,	/* from 7.0, without RSEQ_RT_LEGACY_LENGTH */
	RSEQ_RT_REMEDY_SLICE_KERNEL = 15,	/* CONFIG_RSEQ_SLICE_EXTENSION */
	RSEQ_RT_REMEDY_LIBC_OFF = 16	/* glibc.pthread.rseq=0: then this runtime registers */
};

/* RSEQ_RT_REMEDY_* for RSEQ_RT_OF_*. -EINVAL for another. Async-signal-safe. Costs: 0. When: any time, of any thread's area. */
int rseq_rt_remedy(const rseq_rt_area *area, int of);

/* ---- the birth of a thread ---- */

/*
 * The create hook. A thread that the kernel refuses runs on, and this is 0 all
 * the same: rseq_rt_thread_state tells. The area is the calling thread's own
 * until it is recycled; its memory stays until the exit hook has answered RSEQ_RT_RELEASED,
 * or the kernel has reported the end of the thread through clear-tid.
 * The main thread's is not on the stack of a main that returns: exit handlers run there.
 * When: first on each new thread, the main one included. The signal mask may
 * be any, and is left as found. Costs: 3 (mask, register, mask); 4 where memory is zero and the thread starts on CPU 0.
 */
int rseq_rt_on_thread_create(rseq_rt_area *area);

/* The same where the caller has blocked all signals and SIGSYS is open. Costs: 1 (register). */
int rseq_rt_on_thread_create_masked(rseq_rt_area *area);

/*
 * Registers the calling thread if nobody has tried yet; for a library whose
 * runtime calls no create hook. Returns its state, RSEQ_RT_*. Async-signal-safe.
 * When: any time; an exiting thread is not registered again.
 * Costs: 3 the first time, then a load.
 */
int rseq_rt_ensure_registered(rseq_rt_area *area);

/* The state, RSEQ_RT_*. Costs: 0. When: any time, on any thread. */
int rseq_rt_thread_state(const rseq_rt_area *area);

/*
 * The errno behind RSEQ_RT_UNAVAILABLE, or behind an exit hook that answered RSEQ_RT_KEPT to RSEQ_RT_RELEASE;
 * positive, 0 where there is none. EBUSY: another area of this thread is registered, somebody else's.
 * Costs: 0. When: any time.
 */
int rseq_rt_thread_errno(const rseq_rt_area *area);

/* ---- the life of a thread: its own area, any time, a signal handler included ---- */

/*
 * The CPU, its NUMA node: a moment old when they return. A load where
 * registered, else getcpu(2), whose errno is passed on.
 */
int rseq_rt_cpu(const rseq_rt_area *area);
int rseq_rt_node(const rseq_rt_area *area);

/*
 * The CPU by a load, and nothing else: -ENOSYS where this runtime has not
 * registered the thread, or its area is lent. For a libc, whose vDSO is a
 * faster way out than getcpu(2). Costs: 0.
 */
int rseq_rt_registered_cpu(const rseq_rt_area *area);

/* The same without a call, for a pointer that needs no check: two loads and a comparison; else -1. */
static __inline__ int rseq_rt_cpu_by_load(const rseq_rt_area *area)
{
	typedef const volatile int __attribute__((__may_alias__)) cpu_id;
	typedef const volatile unsigned short __attribute__((__may_alias__)) state;
	const volatile unsigned char *bytes = area->rseq_rt_opaque;
	const volatile void *word = bytes + RSEQ_RT_AREA_STATE;
	const volatile void *id = bytes + RSEQ_RT_AREA_CPU_ID;

	/* The state first: a vfork child sees its parent's cpu_id, frozen. */
#ifdef __cplusplus
	return *static_cast<state *>(word) == RSEQ_RT_REGISTERED ? *static_cast<cpu_id *>(id) : -1;
#else
	return *(state *)word == RSEQ_RT_REGISTERED ? *(cpu_id *)id : -1;
#endif
}

/* The concurrency id (Linux 6.3). Costs: 0. -ENOSYS where the kernel has none or the thread is not registered. */
int rseq_rt_mm_cid(const rseq_rt_area *area);

/*
 * ---- the time-slice extension (Linux 7.0): a thread in a short section asks not to be preempted just now ----
 *
 *     rseq_rt_slice_set(area, 1);				// once on each thread, or RSEQ_RT_SLICE_EXTENSION at init
 *
 *     rseq_rt_slice_control *slice = rseq_rt_slice(area);	// null where it is not on
 *     int request = rseq_rt_slice_request(slice);
 *     ...							// short, no system call
 *     rseq_rt_slice_yield(slice, request);
 *
 * Request and yield are a compare-and-exchange each, for which GCC calls libgcc on aarch64 (-mno-outline-atomics: it does not).
 */

/* The word that the thread shares with the kernel: a request is 1, a grant 256. */
typedef unsigned __attribute__((__may_alias__)) rseq_rt_slice_control;

/* How a request ended. */
enum {
	RSEQ_RT_SLICE_OFF = 0,		/* no extension on this thread */
	RSEQ_RT_SLICE_NESTED = 1,	/* another request stood when it was made, in a caller say: that one is in force */
	RSEQ_RT_SLICE_NOT_NEEDED = 2,	/* the section ended before the kernel wanted the CPU */
	RSEQ_RT_SLICE_YIELDED = 3,	/* granted, and given back */
	RSEQ_RT_SLICE_REVOKED = 4	/* ended by the kernel: a grant ran out, or the thread was moved without one */
};

/*
 * Switches it on or off for the calling thread, while no request stands, whoever has registered the thread: a libc, too, whose
 * __rseq_size reaches that far. -ENOSYS where the thread is not registered, its registration has no room for it (32 bytes,
 * or the libc does not show it), or the kernel lacks it or has it switched off; a filter's errno. Costs: 1.
 */
int rseq_rt_slice_set(rseq_rt_area *area, int on);

/* The kernel's answer: 1 if it is on; 0 if not, and where it is switched off for all; else refused as above. Costs: 1. */
int rseq_rt_slice_get(const rseq_rt_area *area);

/*
 * The control word of the calling thread, null unless the extension is on for it. Of the kernel thread: it is fetched anew
 * after a switch of green threads, and not kept over a vfork or an exit hook. Costs: 0. When: any time, a signal handler included.
 */
rseq_rt_slice_control *rseq_rt_slice(const rseq_rt_area *area);

/* rseq_slice_yield(2), for rseq_rt_slice_yield: 1 if a grant was given back in time, 0 if it was over. Costs: 1. */
int rseq_rt_slice_give_back(void);

/* Asks: the last thing before the section. What it returns ends it. A null word is answered RSEQ_RT_SLICE_OFF. Costs: 0. */
static __inline__ int rseq_rt_slice_request(rseq_rt_slice_control *slice)
{
	unsigned none = 0;
	int request;

	if (!slice)
		return RSEQ_RT_SLICE_OFF;
	/*
	 * One instruction for both bits: the kernel kills, where it checks, for a request that is made while a grant is out, and
	 * between a look and a store it could grant the request of a caller.
	 */
	request = __atomic_compare_exchange_n(slice, &none, 1u, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
		? RSEQ_RT_SLICE_NOT_NEEDED : RSEQ_RT_SLICE_NESTED;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return request;
}

/* Ends a request: the first thing after the section. RSEQ_RT_SLICE_*. Costs: 0; 1 where an extension was granted. */
static __inline__ int rseq_rt_slice_yield(rseq_rt_slice_control *slice, int request)
{
	unsigned seen = 1;

	if (!slice || request != RSEQ_RT_SLICE_NOT_NEEDED)
		return request;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	/* The kernel clears the request as it grants: one that is still there was never granted. */
	if (__atomic_compare_exchange_n(slice, &seen, 0u, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return RSEQ_RT_SLICE_NOT_NEEDED;
	return (seen & 256) && rseq_rt_slice_give_back() == 1 ? RSEQ_RT_SLICE_YIELDED : RSEQ_RT_SLICE_REVOKED;
}

/*
 * Around vfork(2), posix_spawn(3) and any child that shares the memory and has
 * no area of its own: begin in the parent before it, end in the parent after
 * it, with the token that begin returned. A parent that is not registered yet
 * does the same: or a handler in the child could register its area. In between the ids come from
 * getcpu(2), in both. Loans nest, in a handler say, up to seven, and may end in any order: the area is in use again
 * after the last one. Costs: 0. -EINVAL from end for a token that is no loan of this area; 0 is the token of an eighth loan at a time,
 * which changes nothing, nor does its end: it lasts as long as one of the others.
 */
int rseq_rt_vfork_begin(rseq_rt_area *area);
int rseq_rt_vfork_end(rseq_rt_area *area, int token);

/*
 * fork(2) needs nothing, but where a handler forks between begin and end: then nobody tells the child of
 * the end, and a child of the vfork child is not registered. Ends all loans and asks the kernel. Returns the state, RSEQ_RT_*.
 * When: first in a fork child, without CLONE_VM. Where a libc owns, nobody is asked. Costs: 0; up to 5 where the area was lent.
 */
int rseq_rt_repair_in_fork_child(rseq_rt_area *area);

/*
 * Adds a callback: the last one added is the first one called. Of the calling
 * thread only; a signal handler may push. Costs: 0. -ENOMEM when full,
 * -ESRCH once they have run, -EBUSY from a handler that interrupted a push.
 *
 * A callback may use rseq, push others, and end the thread: pthread_exit(3),
 * cancellation and a C++ exception pass through rseq_rt_at_exit_run, and the cleanup
 * handlers of its callers run. The callback that left is not called again, the others
 * stay: another run, from a handler on the way out say, calls them. longjmp(3) likewise.
 */
int rseq_rt_at_exit_push(struct rseq_rt_at_exit *callbacks, void (*function)(void *), void *argument);

/*
 * Calls them, those that callbacks add included, and closes the stack; zero it
 * to use it again. When: before the exit hook, signals open, rseq usable.
 * Costs: 0.
 */
int rseq_rt_at_exit_run(struct rseq_rt_at_exit *callbacks);

/*
 * ---- the death of a thread: one of these, last, on the thread itself ----
 *
 * Whose code runs after it? The exit hook leaves signals blocked, which is right only where exit(2) is next. A start
 * routine of pthread_create, a destructor of thread-specific data and a pool's stop handler return to a libc, and
 * there setuid(3) in another thread waits for this one to take a signal. In those:
 *     sigset_t all, old;
 *     sigfillset(&all);
 *     sigdelset(&all, SIGSYS);
 *     pthread_sigmask(SIG_BLOCK, &all, &old);
 *     rseq_rt_on_thread_exit_masked(area, mode);
 *     pthread_sigmask(SIG_SETMASK, &old, NULL);
 * Nothing between them waits for a lock, the heap's included: its holder may be the one that setuid(3) has stopped. So
 * free(area) after the last line.
 */

/*
 * The exit hook: blocks all signals and, for RSEQ_RT_RELEASE, unregisters.
 *
 * RSEQ_RT_KEEP, for a thread whose memory outlives it (a joinable one): always RSEQ_RT_KEPT. The kernel
 * stops writing to the area before it zeroes clear-tid, so whoever waits for that may reuse the memory.
 * Costs: 1 (mask).
 *
 * RSEQ_RT_RELEASE, for one that unmaps its memory or gives it to a pool: RSEQ_RT_RELEASED, under every owner, says
 * that signals are blocked and that the kernel writes to the area no more. Under a libc that owns rseq, the libc's
 * own area of the thread stays registered: a stack that holds it is not the thread's to unmap. Nor is one that holds an
 * area of somebody whom nobody can see, where a filter refused before the kernel could tell of it. RSEQ_RT_KEPT: the kernel may write (a
 * filter that came late, say), or another area of this thread is registered and may lie in that memory:
 * rseq_rt_thread_errno tells. Costs: 2 (mask, unregister).
 *
 * Negative is misuse: nothing has changed, and the memory must stay as well.
 *
 * SIGSYS is left open. A thread that unmaps its own stack blocks it before that; rseq_rt_unmap_and_exit does.
 */
int rseq_rt_on_thread_exit(rseq_rt_area *area, unsigned mode);

/* The same where the caller has blocked all signals, and they stay so. Costs: 0 for keep, 1 (unregister) for release. */
int rseq_rt_on_thread_exit_masked(rseq_rt_area *area, unsigned mode);

/*
 * In place of the exit hook: blocks all signals, unregisters, makes the kernel
 * forget clear-tid (it would write to whatever is mapped there by then),
 * unmaps the length bytes at base, stack included, and ends the thread.
 * For a detached thread, nobody may wait for its clear-tid word; the robust
 * list lies elsewhere or was unregistered; base is page-aligned; the area is not used again. A libc whose clear-tid
 * word lies elsewhere and is waited for uses the exit hook, and unmaps itself.
 * Where the release is refused, or the libc's own area lies in that memory, it
 * ends the thread WITHOUT unmapping: clear-tid goes to a word in the area, and a later thread's create hook or exit unmaps
 * the memory when the kernel has zeroed that. Where a filter refuses set_tid_address(2), or area is not one that was
 * created and is in use: a leak, and nothing worse.
 * Costs: 6 (mask, unregister, set_tid_address, mask, munmap, exit).
 */
void rseq_rt_unmap_and_exit(rseq_rt_area *area, void *base, size_t length)
	__attribute__((__noreturn__));

/*
 * Unmaps what rseq_rt_unmap_and_exit left of threads that have ended since; returns how many mappings. The
 * create hook does it too. Costs: 0 where nothing is left, else three and one munmap for each.
 */
size_t rseq_rt_sweep(void);

/*
 * Makes the area a new one, for the next thread. When: after the joiner has
 * seen clear-tid, or after an exit hook that answered RSEQ_RT_RELEASED. Costs: 0.
 * -EBUSY where no exit hook has run, or where memory is still to be unmapped for it: it is in use. -EINVAL for an area that is new already.
 */
int rseq_rt_recycle(rseq_rt_area *area);

#ifdef __cplusplus
}
#endif

/*
 * ---- only in librseq_rt_trio.a, for a libc that owns rseq: `cargo xtask staticlib --trio` ----
 *
 * RSEQ_RT_TRIO is defined by rseq_rt_trio.pc. Everybody else finds the three in their libc, if it has
 * them, and in its <sys/rseq.h>.
 */
#ifdef RSEQ_RT_TRIO

/*
 * With glibc's types and meaning (its manual, "Restartable Sequences"). In .data.rel.ro.
 * In C++ without extern "C", as in glibc's own header: the names are the same, and both may be included.
 */
extern const ptrdiff_t __rseq_offset;
extern const unsigned int __rseq_size;
extern const unsigned int __rseq_flags;

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Fills the three from the main thread's area: size stays 0 unless the area is
 * registered. When: after the main thread's create hook, with the thread pointer
 * set up, before a second thread and before RELRO is sealed: -EFAULT after that. Costs: 1.
 */
int rseq_rt_export(const rseq_rt_area *area);

#ifdef __cplusplus
}
#endif

#endif

#endif
