/*
 * rseq in musl: what the insertions call, and rseq.c and rseq_kept.c define.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_IMPL_H
#define RSEQ_IMPL_H

#include <features.h>

/* The main thread: decides, registers, fills the trio. Once, on its final control block. */
hidden void __rseq_main(void);
/* Any other thread. Leaves the signal mask as it is. */
hidden void __rseq_create(void);
/* A detached thread that unmaps itself: all signals but SIGSYS stay blocked. 0: the kernel has let go of the area. */
hidden int __rseq_release(void);
/* The end of a detached thread that the kernel has not let go, with the thread list lock held. */
hidden _Noreturn void __rseq_exit_kept(void);
/* Unmaps what such threads left. Takes the thread list lock. */
hidden void __rseq_sweep(void);
/* A thread whose memory outlives it. No system call. */
hidden void __rseq_keep(void);
/* Around a child that shares the memory. The first returns what the second wants. */
hidden int __rseq_lend(void);
hidden void __rseq_unlend(int);
/* A child with memory of its own, all signals blocked. */
hidden void __rseq_repair(void);

#endif
