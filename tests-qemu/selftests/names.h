/*
 * The operations of rseq_rt_percpu.h under the names that the tests of the kernel (tools/testing/selftests/rseq) and of
 * librseq call. Included before a test by the option -include; requires -D_GNU_SOURCE= and this project's include/ on
 * the path. param_test redefines RSEQ_INJECT_C and others, which is intended and causes a warning.
 *
 *     theirs, in the kernel and in librseq                            ours
 *     rseq_addv                   rseq_load_add_store                 add
 *     rseq_cmpnev_storeoffp_load  rseq_load_cbeq_store_add_load_store pop
 *     rseq_cmpeqv_storev          rseq_load_cbne_store                compare_and_store, bound
 *     rseq_cmpeqv_cmpeqv_storev   rseq_load_cbne_load_cbne_store      compare_two_and_store, bound
 *     rseq_cmpeqv_trystorev_storev rseq_load_cbne_store_store         compare_store_and_store, bound
 *     rseq_cmpeqv_trymemcpy_storev rseq_load_cbne_memcpy_store        compare_copy_and_store, bound
 *     rseq_offset_deref_addv      rseq_load_add_load_load_add_store   none
 *
 * Their caller names the CPU, and words may be anywhere; ours choose the slot inside, and all words are in it. `add`
 * and `pop` are called directly: their callers do not care about the CPU. The others are *bound*: the same text,
 * included once more, with a section that continues only if the id is the caller's, instead of below a bound. Adding
 * through two pointers has no counterpart (add_through has one pointer): param_test leaves out its membarrier test, as
 * on a CPU without it. compare_link_and_store and add_through have no counterpart there, and are not tested here.
 *
 * With -DRSEQ_RT_DELAY the loops of `param_test -3` run inside the bound sections, after the slot is chosen and before
 * the comparison. With -DRSEQ_RT_BROKEN the first three are plain loads and stores, with place 7 of `param_test`
 * between them: its counter and list tests must fail with `-r 20000 -7 -1 -m 1 -y`.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_RT_NAMES_H
#define RSEQ_RT_NAMES_H

#ifdef RSEQ_RT_LIBRSEQ
/* The stride of its pools. */
#define RSEQ_RT_SLOT_SHIFT 16
#include <rseq/mempool.h>
#include <rseq/rseq.h>
#undef rseq_arch_has_load_add_load_load_add_store
#else
#include <rseq.h>
#undef RSEQ_ARCH_HAS_OFFSET_DEREF_ADDV
#endif
#include <rseq_rt_percpu.h>

/* ---- bound to the caller's CPU: slots.count is its number ---- */

#undef RSEQ_RT_PERCPU_ENTER
#ifdef RSEQ_RT_DELAY
#define RSEQ_RT_DELAYED(text) text
#else
#define RSEQ_RT_DELAYED(text)
#endif
#if defined(__x86_64__)
#define RSEQ_RT_PERCPU_ENTER \
		"movl $" RSEQ_RT_PERCPU_RESTARTS ", %%ecx\n\t" \
		"21: leaq 3b(%%rip), %%rax\n\t" \
		"movq %%rax, 8(%[area])\n\t" \
		"2:\n\t" \
		"movl " RSEQ_RT_PERCPU_ID "(%[area]), %%eax\n\t" \
		"cmpl %k[slots], %%eax\n\t" \
		"jne %l[range]\n\t" \
		RSEQ_RT_DELAYED( \
		"movl asm_loop_cnt_3(%%rip), %%eax\n\t" \
		"testl %%eax, %%eax\n\t" \
		"jz 333f\n\t" \
		"222: decl %%eax\n\t" \
		"jnz 222b\n\t" \
		"333: movl %k[slots], %%eax\n\t") \
		"shlq $" RSEQ_RT_PERCPU_SHIFT ", %%rax\n\t"
#elif defined(__aarch64__)
#define RSEQ_RT_PERCPU_ENTER \
		"mov x10, #" RSEQ_RT_PERCPU_RESTARTS "\n\t" \
		"21: adrp x9, 3b\n\t" \
		"add x9, x9, :lo12:3b\n\t" \
		"str x9, [%[area], #8]\n\t" \
		"2:\n\t" \
		"ldr w9, [%[area], #" RSEQ_RT_PERCPU_ID "]\n\t" \
		"cmp w9, %w[slots]\n\t" \
		"b.ne %l[range]\n\t" \
		RSEQ_RT_DELAYED( \
		"adrp x11, asm_loop_cnt_3\n\t" \
		"ldr w11, [x11, :lo12:asm_loop_cnt_3]\n\t" \
		"cbz w11, 333f\n\t" \
		"222: sub w11, w11, #1\n\t" \
		"cbnz w11, 222b\n\t" \
		"333:\n\t")
#elif defined(__riscv)
#define RSEQ_RT_PERCPU_ENTER \
		"li t1, " RSEQ_RT_PERCPU_RESTARTS "\n\t" \
		"21: lla t0, 3b\n\t" \
		"sd t0, 8(%[area])\n\t" \
		"2:\n\t" \
		"lw t0, " RSEQ_RT_PERCPU_ID "(%[area])\n\t" \
		"bne t0, %[slots], %l[range]\n\t" \
		RSEQ_RT_DELAYED( \
		"lla t2, asm_loop_cnt_3\n\t" \
		"lw t2, 0(t2)\n\t" \
		"beqz t2, 333f\n\t" \
		"222: addi t2, t2, -1\n\t" \
		"bnez t2, 222b\n\t" \
		"333:\n\t") \
		"slli t0, t0, " RSEQ_RT_PERCPU_SHIFT "\n\t"
#endif

#define RSEQ_RT_PERCPU_ID "4"
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_bound_##name
#include <rseq_rt_percpu_operations.h>
#undef RSEQ_RT_PERCPU_NAME
#define RSEQ_RT_PERCPU_RELEASE
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_bound_##name##_release
#include <rseq_rt_percpu_operations.h>
#undef RSEQ_RT_PERCPU_NAME
#undef RSEQ_RT_PERCPU_RELEASE
#undef RSEQ_RT_PERCPU_ID

#define RSEQ_RT_PERCPU_ID "24"
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_bound_##name##_mm_cid
#include <rseq_rt_percpu_operations.h>
#undef RSEQ_RT_PERCPU_NAME
#define RSEQ_RT_PERCPU_RELEASE
#define RSEQ_RT_PERCPU_NAME(name) rseq_rt_bound_##name##_mm_cid_release
#include <rseq_rt_percpu_operations.h>
#undef RSEQ_RT_PERCPU_NAME
#undef RSEQ_RT_PERCPU_RELEASE
#undef RSEQ_RT_PERCPU_ID

/* ---- the calls ---- */

/* The slots in which `v` is the first word of `cpu`'s slot. */
static inline struct rseq_rt_slots rseq_rt_slots_of(const void *v, int cpu, uintptr_t count)
{
	struct rseq_rt_slots slots;
	slots.base = (char *)v - (uintptr_t)cpu * RSEQ_RT_SLOT_SIZE;
	slots.count = count;
	return slots;
}

/* The offset of a word at any address. */
#define RSEQ_RT_OFFSET(at, v) ((uintptr_t)(at) - (uintptr_t)(v))

/* 0, 1 if a word differs, -1 if the caller should retry. */
#define RSEQ_RT_CALL(call) __extension__ ({ \
		int answer_; \
		RSEQ_INJECT_C(9) \
		answer_ = (call); \
		if (answer_ > RSEQ_RT_DIFFERS) { \
			RSEQ_INJECT_FAILED \
			answer_ = -1; \
		} \
		answer_; \
	})

#define RSEQ_RT_BY_MODE(mode, name, ...) \
	((mode) == RSEQ_PERCPU_MM_CID ? name##_mm_cid(__VA_ARGS__) : name(__VA_ARGS__))
#define RSEQ_RT_BY_ORDER(mo, mode, name, ...) \
	((mo) != RSEQ_MO_RELEASE ? RSEQ_RT_BY_MODE(mode, name, __VA_ARGS__) \
	 : (mode) == RSEQ_PERCPU_MM_CID ? name##_mm_cid_release(__VA_ARGS__) : name##_release(__VA_ARGS__))
#define RSEQ_RT_SELF ((struct rseq *)rseq_get_abi())
#define RSEQ_RT_ALL(v, cpu) RSEQ_RT_SELF, rseq_rt_slots_of(v, cpu, CPU_SETSIZE), 0
#define RSEQ_RT_ONE(v, cpu) RSEQ_RT_SELF, rseq_rt_slots_of(v, cpu, (uintptr_t)(cpu)), 0

#define rseq_cmpeqv_cmpeqv_storev(mo, mode, v, expect, v2, expect2, newv, cpu) \
	RSEQ_RT_CALL(RSEQ_RT_BY_ORDER(mo, mode, rseq_rt_bound_compare_two_and_store, \
		RSEQ_RT_ONE(v, cpu), expect, RSEQ_RT_OFFSET(v2, v), expect2, newv))
#define rseq_cmpeqv_trystorev_storev(mo, mode, v, expect, v2, newv2, newv, cpu) \
	RSEQ_RT_CALL(RSEQ_RT_BY_ORDER(mo, mode, rseq_rt_bound_compare_store_and_store, \
		RSEQ_RT_ONE(v, cpu), expect, RSEQ_RT_OFFSET(v2, v), newv2, newv))
#define rseq_cmpeqv_trymemcpy_storev(mo, mode, v, expect, dst, src, len, newv, cpu) \
	RSEQ_RT_CALL(RSEQ_RT_BY_ORDER(mo, mode, rseq_rt_bound_compare_copy_and_store, \
		RSEQ_RT_ONE(v, cpu), expect, RSEQ_RT_OFFSET(dst, v), src, len, newv))

#ifndef RSEQ_RT_BROKEN
#define rseq_addv(mo, mode, v, count, cpu) \
	RSEQ_RT_CALL(RSEQ_RT_BY_ORDER(mo, mode, rseq_rt_percpu_add, RSEQ_RT_ALL(v, cpu), count))
#define rseq_cmpnev_storeoffp_load(mo, mode, v, expectnot, voffp, load, cpu) \
	RSEQ_RT_CALL(RSEQ_RT_BY_ORDER(mo, mode, rseq_rt_percpu_pop, \
		RSEQ_RT_ALL(v, cpu), (void *)(expectnot), voffp, (void **)(load)))
#define rseq_cmpeqv_storev(mo, mode, v, expect, newv, cpu) \
	RSEQ_RT_CALL(RSEQ_RT_BY_ORDER(mo, mode, rseq_rt_bound_compare_and_store, RSEQ_RT_ONE(v, cpu), expect, newv))
#else
#define rseq_addv(mo, mode, v, count, cpu) __extension__ ({ \
		intptr_t sum_ = RSEQ_READ_ONCE(*(v)) + (count); \
		RSEQ_INJECT_C(7) \
		RSEQ_WRITE_ONCE(*(v), sum_); \
		0; \
	})
#define rseq_cmpnev_storeoffp_load(mo, mode, v, expectnot, voffp, load, cpu) __extension__ ({ \
		intptr_t head_ = RSEQ_READ_ONCE(*(v)), next_; \
		if (head_ != (expectnot)) { \
			*(load) = head_; \
			next_ = RSEQ_READ_ONCE(*(intptr_t *)(head_ + (voffp))); \
			RSEQ_INJECT_C(7) \
			RSEQ_WRITE_ONCE(*(v), next_); \
		} \
		head_ == (expectnot); \
	})
#define rseq_cmpeqv_storev(mo, mode, v, expect, newv, cpu) __extension__ ({ \
		int differs_ = RSEQ_READ_ONCE(*(v)) != (expect); \
		if (!differs_) { \
			RSEQ_INJECT_C(7) \
			RSEQ_WRITE_ONCE(*(v), newv); \
		} \
		differs_; \
	})
#endif

#define rseq_load_add_store__ptr rseq_addv
#define rseq_load_cbeq_store_add_load_store__ptr rseq_cmpnev_storeoffp_load
#define rseq_load_cbne_store__ptr rseq_cmpeqv_storev
#define rseq_load_cbne_load_cbne_store__ptr rseq_cmpeqv_cmpeqv_storev
#define rseq_load_cbne_store_store__ptr rseq_cmpeqv_trystorev_storev
#define rseq_load_cbne_memcpy_store__ptr rseq_cmpeqv_trymemcpy_storev

#endif
