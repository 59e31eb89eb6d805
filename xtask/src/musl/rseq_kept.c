/*
 * rseq in musl: the memory of detached threads that the kernel has not let go of, e.g. because a filter refuses
 * rseq(2). A later thread unmaps it.
 *
 * A separate file: a program without threads does not need it.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#include "pthread_impl.h"
#include "rseq_impl.h"
#include <sys/mman.h>

/* Linked by `next`, which an exiting thread does not use otherwise. Protected by the thread list lock. */
static struct pthread *volatile kept;

/*
 * The lock is held. The kernel releases it when this thread has ended (it is the thread's clear-tid word), after the
 * last write to the area. So the next holder of the lock finds only threads here that are gone.
 */
_Noreturn void __rseq_exit_kept(void)
{
	pthread_t self = __pthread_self();
	self->next = kept;
	kept = self;
	for (;;) __syscall(SYS_exit, 0);
}

void __rseq_sweep(void)
{
	pthread_t td, next;
	sigset_t set;
	if (!kept) return;
	/* Every holder of the lock blocks signals: a handler must not find it held. */
	__block_app_sigs(&set);
	__tl_lock();
	td = kept;
	kept = 0;
	__tl_unlock();
	__restore_sigs(&set);
	/* Not under the lock: this waits for threads that may still touch a mutex in that memory. */
	for (; td; td = next) {
		next = td->next;
		__munmap(td->map_base, td->map_size);
	}
}
