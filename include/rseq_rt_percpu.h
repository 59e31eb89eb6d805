/*
 * rseq_rt_percpu.h - per-CPU operations as restartable critical sections, inline, for C and C++.
 *
 * An operation changes the slot of the CPU that the thread is on *at that moment*, without an atomic
 * instruction: the kernel aborts it where the thread is preempted, migrated or interrupted in the middle, and it
 * starts over. GCC or clang (asm goto; on x86 not with -masm=intel), x86_64, aarch64, riscv64. No call, no libc, no
 * errno, no thread-local storage.
 *
 * For threads that are registered: after rseq_rt_init and each thread's create hook (rseq_rt.h). Without them, and
 * without rseq_rt_allow_sections, all of this works and every operation says RSEQ_RT_OUT_OF_RANGE. examples/c/requests.c
 * is a whole program.
 *
 *     struct slot { uintptr_t count; char room[120]; } __attribute__((__aligned__(128)));
 *     struct rseq_rt_slots slots;
 *     size_t count = rseq_rt_cpu_bound();				// once
 *
 *     rseq_rt_slots_init(&slots, storage, sizeof(struct slot), count);	// once: count of them, zero
 *     rseq_rt_allow_sections();						// once
 *
 *     if (rseq_rt_percpu_add(rseq_rt_current(area), slots, offsetof(struct slot, count), 1))
 *         atomic_fetch_add(&overflow, 1);				// the thread has no slot
 *
 * Common to all operations:
 *
 *   word, second, offset   in bytes from the start of a slot
 *   the answer             RSEQ_RT_COMMITTED (0), or why nothing was committed; up to the commit nothing that others
 *                          rely on has changed
 *   the commit             is the last store of the section. The names that end in _release order it behind all that
 *                          came before it, for those who read the word with acquire on any CPU; the others promise no
 *                          order, and that is enough for data that only this CPU's operations look at
 *   the slot               is the one numbered by cpu_id; by the concurrency id in the names with _mm_cid
 *   restarts               up to RSEQ_RT_RESTARTS, then RSEQ_RT_ABORTED
 *   the words              are written by nothing but operations over slots of the same numbering, and by others only
 *                          while no such operation runs (no atomic instruction from another CPU is worth anything
 *                          against a section that has compared and not yet stored)
 *   where                  any thread, signal handlers too; a thread that is not registered, lent or exiting, and one
 *                          whose CPU has no slot, is answered RSEQ_RT_OUT_OF_RANGE: it takes the way without slots
 *   cost                   no system call
 *
 * A committed operation leaves the address of its descriptor in the area, which the kernel reads at the next
 * preemption: a shared object that has operations in it stays mapped (-Wl,-z,nodelete), or its threads die after dlclose(3),
 * unless each has called rseq_rt_prepare_unload.
 *
 * Limits of the assemblers: on riscv64 an object whose text has more than 1 MiB is compiled with -ffunction-sections,
 * since a jump reaches no farther to the abort handlers behind it; and clang 14 does not mend a branch to an exit that is
 * more than 4 KiB away (GNU as does). With GCC, operations cannot be inlined into a function whose target attribute has
 * less than the file's.
 *
 * Unwinding. A signal that aborts an operation finds the thread in its abort handler, which lies behind the functions of the
 * object, and which no unwind table covers. A backtrace ends there; and so does the unwinding of an asynchronous cancellation
 * and of an exception that leaves the signal handler: destructors and, with -fexceptions, cleanup handlers are not run.
 * Deferred cancellation, the default, is not concerned. The functions of rseq_rt_structures.h have the same sections.
 *
 * With RSEQ_RT_DEBUG defined, and without NDEBUG, an assert(3) names the argument that is wrong, as far as that can be seen
 * without a look at the memory: a null or misaligned pointer, an offset beyond the slot, a store over the word of the commit,
 * what rseq_rt_slots_init refuses.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_RT_PERCPU_H
#define RSEQ_RT_PERCPU_H

#include <stddef.h>
#include <stdint.h>

#include "rseq_rt.h"

#if !defined(__x86_64__) && !(defined(__aarch64__) && !defined(__AARCH64EB__)) && !(defined(__riscv) && __riscv_xlen == 64)
#error "rseq_rt_percpu.h needs x86_64, aarch64 or riscv64, little-endian"
#elif __SIZEOF_POINTER__ != 8
#error "rseq_rt_percpu.h needs pointers of 64 bits: neither x32 nor another ILP32"
#endif

#ifdef RSEQ_RT_DEBUG
#include <assert.h>
#define RSEQ_RT_PERCPU_ASSERT(holds) assert(holds)
#else
#define RSEQ_RT_PERCPU_ASSERT(holds) ((void)0)
#endif

#ifdef __cplusplus
#define RSEQ_RT_PERCPU_ADDRESS(pointer) reinterpret_cast<uintptr_t>(pointer)
extern "C" {
#else
#define RSEQ_RT_PERCPU_ADDRESS(pointer) ((uintptr_t)(pointer))
#endif

#define RSEQ_RT_PERCPU_IS_WORD(pointer) ((pointer) && RSEQ_RT_PERCPU_ADDRESS(pointer) % sizeof(uintptr_t) == 0)

/* The outcome of an operation. */
enum {
	RSEQ_RT_COMMITTED = 0,
	RSEQ_RT_DIFFERS = 1,		/* a word was not what it was compared with; the list was empty */
	RSEQ_RT_ABORTED = 2,		/* aborted too often: single-stepping, a storm of signals */
	RSEQ_RT_OUT_OF_RANGE = 3	/* the thread may run no section, or its CPU has no slot */
};

/* How often an aborted operation starts again. */
#define RSEQ_RT_RESTARTS 16

/*
 * log2 of the size of a slot. 128 bytes, so that no two CPUs share a pair of cache lines; another one, from 3 on, is
 * defined before the header is included, and is that of the whole translation unit.
 */
#ifndef RSEQ_RT_SLOT_SHIFT
#define RSEQ_RT_SLOT_SHIFT 7
#elif RSEQ_RT_SLOT_SHIFT < 3 || RSEQ_RT_SLOT_SHIFT > 30
#error "RSEQ_RT_SLOT_SHIFT is log2 of the size of a slot: 3 to 30"
#endif

/* The size of a slot, in bytes. */
#define RSEQ_RT_SLOT_SIZE (sizeof(char) << (RSEQ_RT_SLOT_SHIFT))

/* Numbers as the assembly has them. */
#define RSEQ_RT_PERCPU_SPELT(number) #number
#define RSEQ_RT_PERCPU_TEXT(number) RSEQ_RT_PERCPU_SPELT(number)
#define RSEQ_RT_PERCPU_RESTARTS RSEQ_RT_PERCPU_TEXT(RSEQ_RT_RESTARTS)
#define RSEQ_RT_PERCPU_SHIFT RSEQ_RT_PERCPU_TEXT(RSEQ_RT_SLOT_SHIFT)

#if defined(__x86_64__)
#define RSEQ_RT_PERCPU_SIGNATURE "0x53053053"
#elif defined(__aarch64__)
#define RSEQ_RT_PERCPU_SIGNATURE "0xd428bc00"
#else
#define RSEQ_RT_PERCPU_SIGNATURE "0xf1401073"
#endif

#define RSEQ_RT_PERCPU_INLINE static __inline__ __attribute__((__always_inline__, __unused__))

/* The kernel's structure: <linux/rseq.h>. */
struct rseq;

/* Storage of the caller's, checked by rseq_rt_slots_init. All zero is no slot at all. */
struct rseq_rt_slots {
	void *base;
	uintptr_t count;
};

/* ---- once ---- */

/* The answers of rseq_rt_allow_sections and rseq_rt_sections. */
enum {
	RSEQ_RT_SECTIONS_NOT_ASKED = 0,
	RSEQ_RT_SECTIONS_ALLOWED = 1,
	RSEQ_RT_SECTIONS_KNOWN_BAD = 2,	/* aarch64, Linux 6.19 to 7.0.13: sections are not aborted by preemption */
	RSEQ_RT_SECTIONS_UNKNOWN = 3,	/* aarch64: the kernel does not say its version */
	RSEQ_RT_SECTIONS_NOT_ABORTED = 4	/* a probe has seen a section committed that should have been aborted */
};

/*
 * May this kernel be trusted with sections? By its name. The answer stays; without RSEQ_RT_SECTIONS_ALLOWED every
 * rseq_rt_current is null. When: once, before per-CPU data is used, by any thread. Costs: uname(2) on aarch64, else 0.
 */
int rseq_rt_allow_sections(void);

/* The answer so far. Costs: 0. When: any time. */
int rseq_rt_sections(void);

/*
 * Checks storage: count slots of stride bytes, the first at base. Nothing is changed but *slots. 0, or
 *     -EFAULT     a null pointer
 *     -EINVAL     base is misaligned; stride is not the size that RSEQ_RT_SLOT_SHIFT says; no slot
 *     -EOVERFLOW  more slots than a CPU number can count, or than memory can hold
 */
RSEQ_RT_PERCPU_INLINE int rseq_rt_slots_init(struct rseq_rt_slots *slots, void *base, size_t stride, size_t count)
{
	RSEQ_RT_PERCPU_ASSERT(slots);
	RSEQ_RT_PERCPU_ASSERT(RSEQ_RT_PERCPU_IS_WORD(base));
	RSEQ_RT_PERCPU_ASSERT(stride == RSEQ_RT_SLOT_SIZE);
	RSEQ_RT_PERCPU_ASSERT(count && count <= 0x7fffffff);
	if (!slots || !base)
		return -14;
	if (RSEQ_RT_PERCPU_ADDRESS(base) % sizeof(uintptr_t) || stride != RSEQ_RT_SLOT_SIZE
	    || !count)
		return -22;
	/* -1 and -2 are no numbers of a CPU. */
	if (count > 0x7fffffff || count > (sizeof(char) << 62) / RSEQ_RT_SLOT_SIZE)
		return -75;
	slots->base = base;
	slots->count = count;
	return 0;
}

/*
 * A number of slots that covers every CPU number of this machine, without a file: the bits of the mask that
 * sched_getaffinity(2) answers with, which may be many more than there are CPUs (256 of a kernel built for 256). For the
 * exact number there is the next function. 0 where a filter refuses the call. Costs: 1.
 */
size_t rseq_rt_cpu_bound(void);

/*
 * The same, exactly: one more than the highest number in /sys/devices/system/cpu/possible, whatever the calling thread may
 * use. 0 where that cannot be read, without /sys say. Costs: 3.
 */
size_t rseq_rt_possible_cpu_bound(void);

/* ---- the calling thread ---- */

/*
 * The structure that the kernel keeps for the calling thread, if it may run sections over slots that are numbered by
 * CPU (by concurrency id); else null, which every operation takes. area is the thread's own. It is fetched anew
 * after a switch of green threads, and not kept over a vfork, the end of a loan or an exit hook.
 * Costs: 0. When: any time, a signal handler included.
 */
struct rseq *rseq_rt_current(const rseq_rt_area *area);
struct rseq *rseq_rt_current_mm_cid(const rseq_rt_area *area);

/*
 * Forgets the calling thread's last section, whoever has registered the thread, so that the memory of the section may go:
 * before dlclose(3) of an object that has operations in it, and before generated code with sections is unmapped. Each
 * thread that has run one of them calls it, after its last one and before the object goes: a thread's area is its own
 * to store to, and a fence reaches the threads that run and not those that sleep. One that has ended needs nothing.
 * Costs: 0; one store. When: any time, a signal handler included. -EFAULT, -EINVAL as in rseq_rt.h.
 */
int rseq_rt_prepare_unload(const rseq_rt_area *area);

/* The number of the slot at this moment, to look at it before an operation compares; rseq is not null. */
RSEQ_RT_PERCPU_INLINE unsigned rseq_rt_percpu_id(const struct rseq *rseq)
{
	typedef const volatile unsigned __attribute__((__may_alias__)) id;
#ifdef __cplusplus
	return reinterpret_cast<id *>(rseq)[1];
#else
	return ((id *)rseq)[1];
#endif
}

RSEQ_RT_PERCPU_INLINE unsigned rseq_rt_percpu_id_mm_cid(const struct rseq *rseq)
{
	typedef const volatile unsigned __attribute__((__may_alias__)) id;
#ifdef __cplusplus
	return reinterpret_cast<id *>(rseq)[6];
#else
	return ((id *)rseq)[6];
#endif
}

/* ---- the operations ---- */

#define RSEQ_RT_PERCPU_ID "4"
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_percpu_##name
#include "rseq_rt_percpu_operations.h"
#undef RSEQ_RT_PERCPU_NAME

#define RSEQ_RT_PERCPU_RELEASE
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_percpu_##name##_release
#include "rseq_rt_percpu_operations.h"
#undef RSEQ_RT_PERCPU_NAME
#undef RSEQ_RT_PERCPU_RELEASE
#undef RSEQ_RT_PERCPU_ID

#define RSEQ_RT_PERCPU_ID "24"
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_percpu_##name##_mm_cid
#include "rseq_rt_percpu_operations.h"
#undef RSEQ_RT_PERCPU_NAME

#define RSEQ_RT_PERCPU_RELEASE
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_percpu_##name##_mm_cid_release
#include "rseq_rt_percpu_operations.h"
#undef RSEQ_RT_PERCPU_NAME
#undef RSEQ_RT_PERCPU_RELEASE
#undef RSEQ_RT_PERCPU_ID

/* ---- sections of one's own ---- */

/*
 * The text before and behind the lines of a section, as in the operations above: the descriptor, the store of its
 * address, the choice of the slot, the end, and the abort handler, which starts over. The lines are an asm goto, so that
 * they have no output; the last one is the commit. The rules that they keep are in docs/sections.md, and
 * examples/c/sections.c is a whole program.
 *
 *     int record(struct rseq *rseq, struct rseq_rt_slots slots, uintptr_t value)	// the last value, and how many
 *     {
 *         if (!rseq)
 *             return RSEQ_RT_OUT_OF_RANGE;
 *         __asm__ __volatile__ goto (
 *             RSEQ_RT_SECTION_BEGIN(RSEQ_RT_SECTION_EXIT(full))
 *             "addq %[base], %%rax\n\t"			// the slot
 *             "movq (%%rax), %%rdx\n\t"
 *             "cmpq $15, %%rdx\n\t"
 *             "je %l[full]\n\t"
 *             "movq %[value], 8(%%rax, %%rdx, 8)\n\t"
 *             "addq $1, %%rdx\n\t"
 *             "movq %%rdx, (%%rax)\n\t"			// the commit
 *             RSEQ_RT_SECTION_END
 *             :
 *             : RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [value] "r" (value)
 *             : RSEQ_RT_SECTION_CLOBBERS, "rdx"
 *             : RSEQ_RT_SECTION_LABELS, full);
 *         return RSEQ_RT_COMMITTED;
 *     RSEQ_RT_SECTION_MISSES
 *     full:
 *         return RSEQ_RT_DIFFERS;
 *     }
 *
 *   BEGIN      takes one RSEQ_RT_SECTION_EXIT(label) for each label that a line branches to, one behind the other, or ""
 *   the slot   on x86_64 %rax has its offset in bytes, on riscv64 t0; on aarch64 x9 has its number, to be shifted by
 *              RSEQ_RT_SECTION_SHIFT. They may be changed; rcx, x10, t1, %[area] and %[slots] may not
 *   registers  that the lines change are fixed and named as clobbers; inputs are not changed
 *   labels     6 to 9 and 40 to 99 are the section's own, range, aborted, area and slots the macros'
 *   an answer  is stored behind RSEQ_RT_SECTION_END, from a register, through an input: see the example
 */
#define RSEQ_RT_SECTION_BEGIN(exits) RSEQ_RT_PERCPU_DESCRIPTOR(RSEQ_RT_PERCPU_EXIT(range) exits) RSEQ_RT_PERCPU_ENTER
#define RSEQ_RT_SECTION_EXIT(label) RSEQ_RT_PERCPU_EXIT(label)
#define RSEQ_RT_SECTION_END RSEQ_RT_PERCPU_LEAVE
#define RSEQ_RT_SECTION_SHIFT RSEQ_RT_PERCPU_SHIFT
#define RSEQ_RT_SECTION_INPUTS(rseq, slots_) [area] "r" (rseq), [slots] "r" ((slots_).count)
#if defined(__x86_64__)
#define RSEQ_RT_SECTION_CLOBBERS "memory", "cc", "rax", "rcx"
#elif defined(__aarch64__)
#define RSEQ_RT_SECTION_CLOBBERS "memory", "cc", "x9", "x10"
#else
#define RSEQ_RT_SECTION_CLOBBERS "memory", "t0", "t1"
#endif
#define RSEQ_RT_SECTION_LABELS range, aborted
#define RSEQ_RT_SECTION_MISSES \
	range: \
		return RSEQ_RT_OUT_OF_RANGE; \
	aborted: \
		return RSEQ_RT_ABORTED;

/* The number that chooses the slot: cpu_id, or the concurrency id where this is defined anew before the section. */
#define RSEQ_RT_SECTION_CPU_ID "4"
#define RSEQ_RT_SECTION_MM_CID "24"
#ifndef RSEQ_RT_SECTION_ID
#define RSEQ_RT_SECTION_ID RSEQ_RT_SECTION_CPU_ID
#endif
#define RSEQ_RT_PERCPU_ID RSEQ_RT_SECTION_ID

#ifdef __cplusplus
}
#endif

#endif
