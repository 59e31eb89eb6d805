/*
 * rseq in musl: what the insertions call, and rseq.c defines.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#ifndef RSEQ_IMPL_H
#define RSEQ_IMPL_H

#include <features.h>

/* The main thread: decides, registers, fills the trio. Once, on its final control block. */
hidden void __rseq_main(void);
/* Any other thread, application signals blocked. */
hidden void __rseq_create(void);
/* A thread that unmaps itself, all signals blocked. Negative: its memory must stay. */
hidden int __rseq_release(void);
/* A thread whose memory outlives it. No system call. */
hidden void __rseq_keep(void);
/* Around a child that shares the memory. The first returns what the second wants. */
hidden int __rseq_lend(void);
hidden void __rseq_unlend(int);

#endif
