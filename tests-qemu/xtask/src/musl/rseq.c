/*
 * rseq in musl: the hooks, on the area in struct pthread.
 *
 * Linked with librseq_rt_trio.a into one object, in which nothing but these
 * functions (hidden) and the trio is global: a program or a library that brings
 * an rseq_rt of its own meets no name of ours.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#define RSEQ_RT_TRIO
#include "pthread_impl.h"
#include "libc.h"
#include "rseq_impl.h"

#define AREA (&__pthread_self()->rseq)

/* No handler can be installed yet: nothing to block. */
void __rseq_main(void)
{
	rseq_rt_init(libc.auxv);
	rseq_rt_on_thread_create_masked(AREA);
	rseq_rt_export(AREA);
}

/*
 * The internal signals (timer, cancel, synccall) may be open. Their handlers
 * register nothing, and that is all that the mask is for.
 */
void __rseq_create(void)
{
	rseq_rt_on_thread_create_masked(AREA);
}

int __rseq_release(void)
{
	return rseq_rt_on_thread_exit_release_masked(AREA);
}

void __rseq_keep(void)
{
	rseq_rt_on_thread_exit_keep_masked(AREA);
}

int __rseq_lend(void)
{
	return rseq_rt_vfork_begin(AREA);
}

/* Negative where nothing was lent: the parent is itself such a child, say. */
void __rseq_unlend(int token)
{
	if (token >= 0) rseq_rt_vfork_end(AREA, token);
}
