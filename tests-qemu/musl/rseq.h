/* rseq as a program sees it that does not know who registered it: the trio, the area, the kernel. */
#ifndef RSEQ_H
#define RSEQ_H

#include <stddef.h>

/* glibc's names, types and meaning (its manual, "Restartable Sequences"). */
extern const ptrdiff_t __rseq_offset;
extern const unsigned int __rseq_size;
extern const unsigned int __rseq_flags;

struct trio {
	ptrdiff_t offset;
	unsigned size, flags;
};

/* As this program and as a shared object see it (the same in a static program). */
struct trio trio_now(void);
struct trio trio_of_library(void);

/* Constructors that have checked: two of the program, one of the shared object. */
#define CONSTRUCTORS 3
extern int constructed;
void look_from_constructor(const char *where);

/* Whether this kernel has rseq(2). If not, `registered` checks that no registration is claimed. */
int kernel_has_rseq(void);

/* The area's cpu_id, found by the trio. */
int cpu_id(void);

/* getcpu(2) itself. */
int cpu_by_call(void);

/*
 * The calling thread is registered at the area that the trio leads to, with its length: only then the answer to a
 * second registration is EBUSY. If it passes, all of it is async-signal-safe.
 */
void registered_now(const char *where);

/* The same, and cpu_id and sched_getcpu agree with getcpu on every CPU that the thread may run on. */
void registered(const char *where);

/* cpu_id is -2, and sched_getcpu is right on every CPU. */
void refused(const char *where);

/* Moves to the CPUs in turn, calling `look` on each with its number. */
void on_each_cpu(void (*look)(const char *where, int cpu), const char *where);

#endif
