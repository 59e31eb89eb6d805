/*
 * Restartable sequences: the area of the calling thread, registered by the libc.
 *
 * The area is at the thread pointer (__builtin_thread_pointer()) plus __rseq_offset, in every thread.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef _SYS_RSEQ_H
#define _SYS_RSEQ_H

#include <stddef.h>
#include <stdint.h>

/* The signature: the word before an abort handler. */
#if defined(__x86_64__)
#define RSEQ_SIG 0x53053053
#elif defined(__aarch64__)
#define RSEQ_SIG 0xd428bc00
#elif defined(__riscv)
#define RSEQ_SIG 0xf1401073
#endif

/* The kernel's header has the same names, and newer fields. */
#ifdef __has_include
#if __has_include(<linux/rseq.h>)
#define __RSEQ_BY_LINUX
#endif
#endif

#ifdef __RSEQ_BY_LINUX
#include <linux/rseq.h>
#undef __RSEQ_BY_LINUX
#else

enum rseq_cpu_id_state {
	RSEQ_CPU_ID_UNINITIALIZED = -1,
	RSEQ_CPU_ID_REGISTRATION_FAILED = -2
};

enum rseq_flags {
	RSEQ_FLAG_UNREGISTER = 1 << 0
};

enum rseq_cs_flags_bit {
	RSEQ_CS_FLAG_NO_RESTART_ON_PREEMPT_BIT = 0,
	RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL_BIT = 1,
	RSEQ_CS_FLAG_NO_RESTART_ON_MIGRATE_BIT = 2
};

enum rseq_cs_flags {
	RSEQ_CS_FLAG_NO_RESTART_ON_PREEMPT = 1U << RSEQ_CS_FLAG_NO_RESTART_ON_PREEMPT_BIT,
	RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL = 1U << RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL_BIT,
	RSEQ_CS_FLAG_NO_RESTART_ON_MIGRATE = 1U << RSEQ_CS_FLAG_NO_RESTART_ON_MIGRATE_BIT
};

struct rseq_cs {
	uint32_t version;
	uint32_t flags;
	uint64_t start_ip;
	uint64_t post_commit_offset;
	uint64_t abort_ip;
} __attribute__((__aligned__(32)));

/* After flags, only fields within the first __rseq_size bytes are valid. */
struct rseq {
	uint32_t cpu_id_start;
	uint32_t cpu_id;
	uint64_t rseq_cs;
	uint32_t flags;
	uint32_t node_id;
	uint32_t mm_cid;
} __attribute__((__aligned__(32)));

#endif

/* Offset of the area from the thread pointer. */
extern const ptrdiff_t __rseq_offset;
/* Bytes of valid fields; 0: the main thread is not registered. */
extern const unsigned int __rseq_size;
/* Flags of the registration. */
extern const unsigned int __rseq_flags;

#endif
