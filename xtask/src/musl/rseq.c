/*
 * rseq in musl: the hooks, on the area in struct pthread.
 *
 * Linked with librseq_rt_trio.a into one object that exports only these functions (hidden) and the trio, so that a
 * program or a library with its own rseq_rt meets none of our symbols.
 *
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
 */
#define RSEQ_RT_TRIO
#include "pthread_impl.h"
#include "libc.h"
#include "rseq_impl.h"
#include <elf.h>
#include <string.h>
#include <unistd.h>
#ifdef MUSL_RSEQ_PERCPU
#include "percpu.h"
#include "rseq_rt_percpu.h"
#include "rseq_rt_structures.h"
#endif

#define AREA (&__pthread_self()->rseq)

/* New memory is zero: a reader of the trio must not see CPU 0 before registration, nor after a refusal. */
#define NO_CPU_YET() (*(volatile int *)(AREA->rseq_rt_opaque + RSEQ_RT_AREA_CPU_ID) = -1)

/* The default where the environment does not say. 0: register only with MUSL_RSEQ=1. */
#ifndef MUSL_RSEQ_DEFAULT
#define MUSL_RSEQ_DEFAULT 1
#endif

/* From auxv: in a static program libc.secure is not set yet. */
static int is_secure(void)
{
	size_t *aux;
	for (aux = libc.auxv; *aux; aux += 2)
		if (*aux == AT_SECURE) return aux[1] != 0;
	return 1;
}

/* MUSL_RSEQ=0 or =1. Not by getenv: a static program may define its own, which must not run before its constructors. */
static int is_wanted(void)
{
	static const char name[] = "MUSL_RSEQ=";
	const size_t length = sizeof name - 1;
	char **next;
	if (is_secure()) return MUSL_RSEQ_DEFAULT;
	for (next = __environ; next && *next; next++) {
		const char *value = *next + length;
		if (strncmp(*next, name, length)) continue;
		if ((*value == '0' || *value == '1') && !value[1]) return *value == '1';
	}
	return MUSL_RSEQ_DEFAULT;
}

/*
 * No handler can be installed yet, not even for SIGSYS: nothing to block or unblock. Only MUSL_RSEQ=0 helps against a
 * filter from before the start that traps or kills for rseq(2).
 */
void __rseq_main(void)
{
	rseq_rt_init_flags(libc.auxv, is_wanted() ? 0 : RSEQ_RT_DISABLED);
	NO_CPU_YET();
	rseq_rt_on_thread_create_masked(AREA);
	rseq_rt_export(AREA);
}

/* Not the masked form: musl has blocked SIGSYS too, and a filter may trap rseq(2). */
void __rseq_create(void)
{
	NO_CPU_YET();
	rseq_rt_on_thread_create(AREA);
}

int __rseq_release(void)
{
	return rseq_rt_on_thread_exit(AREA, RSEQ_RT_RELEASE) != RSEQ_RT_RELEASED;
}

void __rseq_keep(void)
{
	rseq_rt_on_thread_exit_masked(AREA, RSEQ_RT_KEEP);
}

int __rseq_lend(void)
{
	return rseq_rt_vfork_begin(AREA);
}

void __rseq_unlend(int token)
{
	rseq_rt_vfork_end(AREA, token);
}

/* No effect, unless a handler forked during a loan. */
void __rseq_repair(void)
{
	rseq_rt_repair_in_fork_child(AREA);
}

#ifdef MUSL_RSEQ_PERCPU
/* Queries of malloc per CPU. */
int __rseq_sections(void)
{
	return rseq_rt_owner() != RSEQ_RT_OWNER_NOBODY
		&& rseq_rt_allow_sections() == RSEQ_RT_SECTIONS_ALLOWED;
}

size_t __rseq_cpu_bound(void)
{
	return rseq_rt_cpu_bound();
}

int __rseq_fence(size_t cpu)
{
	/* Under the lock of malloc_trim. A fork child inherits the registration. */
	static struct rseq_rt_fence fence;
	static int is_registered;
	if (!is_registered) rseq_rt_fence_register(&fence);
	is_registered = 1;
	return rseq_rt_fence_abort(&fence, cpu);
}
#endif
