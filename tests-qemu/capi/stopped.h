/*
 * A push of one word as in examples/c/sections.c, put together from its lines, and what is wrong with others of them.
 */
#ifndef STOPPED_H
#define STOPPED_H

#include "stops.h"

extern struct rseq *rseq;
extern struct rseq_rt_slots slots;
extern uintptr_t batch[];

/* The lines: the slot, its head, a place for one more, the item, one more, the commit. */
#if defined(__x86_64__)
#define SLOT "addq %[base], %%rax\n\t"
#define HEAD_ "movq (%%rax), %%rdx\n\t"
#define HEAD_BEFORE "movq %[head], %%rdx\n\t"
#define FULL "cmpq $56, %%rdx\n\tjae %l[full]\n\t"
#define ITEM "movq %[value], 64(%%rax, %%rdx, 8)\n\t"
#define MORE "leaq 1(%%rdx), %%r8\n\t"
#define COMMIT "movq %%r8, (%%rax)\n\t"
#define NOTHING "movq %%r8, %%r8\n\t"
#define LEAVE "jmp %l[full]\n\t"
#define SKIPPED "jmp 6f\n\tmovq %%rdx, %%rdx\n\t6:\n\t"
#define INPUT "addq $1, %[value]\n\t"
#define ADDED "addq $1, (%%rax)\n\tmovq (%%rax), %%r8\n\t"
#define OTHER "xorl %%r10d, %%r10d\n\t"
#define VECTOR "pxor %%xmm3, %%xmm3\n\t"
#define BELOW "movq %%rdx, -8(%%rsp)\n\t"
#define TEMPORARIES "rdx", "r8"
#elif defined(__aarch64__)
#define SLOT "add x9, %[base], x9, lsl #" RSEQ_RT_SECTION_SHIFT "\n\t"
#define HEAD_ "ldr x11, [x9]\n\t"
#define HEAD_BEFORE "mov x11, %[head]\n\t"
#define FULL "cmp x11, #56\n\tb.hs %l[full]\n\t"
#define ITEM "add x12, x9, x11, lsl #3\n\tstr %[value], [x12, #64]\n\t"
#define MORE "add x12, x11, #1\n\t"
#define COMMIT "str x12, [x9]\n\t"
#define NOTHING "mov x12, x12\n\t"
#define LEAVE "b %l[full]\n\t"
#define SKIPPED "b 6f\n\tmov x12, x12\n\t6:\n\t"
#define INPUT "add %[value], %[value], #1\n\t"
#define ADDED "ldr x12, [x9]\n\tadd x12, x12, #1\n\tstr x12, [x9]\n\t"
#define OTHER "mov x14, #0\n\t"
#define VECTOR "movi v3.2d, #0\n\t"
#define TEMPORARIES "x11", "x12"
#else
#define SLOT "add t0, %[base], t0\n\t"
#define HEAD_ "ld t2, 0(t0)\n\t"
#define HEAD_BEFORE "mv t2, %[head]\n\t"
#define FULL "li t3, 56\n\tbgeu t2, t3, %l[full]\n\t"
#define ITEM "slli t3, t2, 3\n\tadd t3, t3, t0\n\tsd %[value], 64(t3)\n\t"
#define MORE "addi t3, t2, 1\n\t"
#define COMMIT "sd t3, 0(t0)\n\t"
#define NOTHING "mv t3, t3\n\t"
#define LEAVE "j %l[full]\n\t"
#define SKIPPED "j 6f\n\tmv t3, t3\n\t6:\n\t"
#define INPUT "addi %[value], %[value], 1\n\t"
#define ADDED "ld t3, 0(t0)\n\taddi t3, t3, 1\n\tsd t3, 0(t0)\n\t"
#define OTHER "li t5, 0\n\t"
#define VECTOR "fmv.d.x ft3, zero\n\t"
#define TEMPORARIES "t2", "t3"
#endif

#define PUSH_WITH(name, exits, lines) \
static int name##_section(uintptr_t head) \
{ \
	uintptr_t value = batch[0]; \
	__asm__ __volatile__ goto ( \
		RSEQ_RT_SECTION_BEGIN(exits) \
		lines \
		RSEQ_RT_SECTION_END \
		: /* none */ \
		: RSEQ_RT_SECTION_INPUTS(rseq, slots), [base] "r" (slots.base), [value] "r" (value), [head] "r" (head) \
		: RSEQ_RT_SECTION_CLOBBERS, TEMPORARIES \
		: RSEQ_RT_SECTION_LABELS, full); \
	return RSEQ_RT_COMMITTED; \
	RSEQ_RT_SECTION_MISSES \
full: \
	return RSEQ_RT_DIFFERS; \
} \
STOPS_CALL(name, name##_section(((const uintptr_t *)slots.base)[0]))

#define PUSH(name, lines) PUSH_WITH(name, RSEQ_RT_SECTION_EXIT(full), lines)

PUSH(right, SLOT HEAD_ FULL ITEM MORE COMMIT)
PUSH(published_early, SLOT HEAD_ FULL MORE COMMIT ITEM)
PUSH(commit_not_last, SLOT HEAD_ FULL ITEM MORE COMMIT NOTHING)
PUSH(added_before, SLOT HEAD_ FULL ITEM ADDED MORE COMMIT)
PUSH(left_behind_the_commit, SLOT HEAD_ ITEM MORE COMMIT LEAVE)
PUSH(loaded_before, SLOT HEAD_BEFORE FULL ITEM MORE COMMIT)
PUSH(input_changed, SLOT HEAD_ FULL INPUT ITEM MORE COMMIT)
PUSH(no_clobber, SLOT HEAD_ FULL ITEM MORE OTHER COMMIT)
PUSH(no_vector_clobber, SLOT HEAD_ FULL ITEM MORE VECTOR COMMIT)
#if defined(__x86_64__)
PUSH(below_the_stack, SLOT HEAD_ FULL BELOW ITEM MORE COMMIT)
#endif
PUSH(never_reached, SLOT HEAD_ FULL SKIPPED ITEM MORE COMMIT)
PUSH_WITH(no_exit, "", SLOT HEAD_ FULL ITEM MORE COMMIT)

/* The compiler may have put an input into the register, in which case the result is wrong, or the thread faults. */
#define ANY (-1)

static const struct {
	const char *name;
	int (*call)(void);
	int finding;
} wrong[] = {
	{ "nothing wrong", right, 0 },
	{ "published before the item", published_early, STOPS_CHANGED },
	{ "an instruction behind the commit", commit_not_last, STOPS_CHANGED },
	{ "a store that others see", added_before, STOPS_CHANGED },
	{ "an exit behind the commit", left_behind_the_commit, STOPS_CHANGED },
	{ "a head that was loaded before", loaded_before, STOPS_RESULT },
	{ "an input changed", input_changed, STOPS_RESULT },
	{ "a register that is no clobber", no_clobber, ANY },
	{ "a vector register", no_vector_clobber, STOPS_REGISTER },
	{ "an instruction never reached", never_reached, STOPS_UNREACHED },
	{ "an exit without its entry", no_exit, STOPS_EXIT },
#if defined(__x86_64__)
	{ "the red zone", below_the_stack, STOPS_REGISTER },
#endif
};

#endif
