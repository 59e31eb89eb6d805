/*
 * rseq in musl: functions called by the insertions, defined in rseq.c and rseq_kept.c.
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
/* For a detached thread that unmaps itself: leaves all signals but SIGSYS blocked. 0: the area is released. */
hidden int __rseq_release(void);
/* Ends a detached thread that the kernel has not let go of, with the thread list lock held. */
hidden _Noreturn void __rseq_exit_kept(void);
/* Unmaps the memory of such threads. Takes the thread list lock. */
hidden void __rseq_sweep(void);
/* For a thread whose memory outlives it. No system call. */
hidden void __rseq_keep(void);
/* Around a child that shares the memory. The second takes the result of the first. */
hidden int __rseq_lend(void);
hidden void __rseq_unlend(int);
/* In a child with its own memory, with all signals blocked. */
hidden void __rseq_repair(void);

#endif
