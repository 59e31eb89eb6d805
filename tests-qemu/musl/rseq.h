/* What a program sees of rseq that knows nothing of who registered it: the trio, the area, the kernel. */
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

/* As this program, and as a shared object sees it (the same in a static program). */
struct trio trio_now(void);
struct trio trio_of_library(void);

/* Constructors that have looked: two of the program, one of the shared object. */
#define CONSTRUCTORS 3
extern int constructed;
void look_from_constructor(const char *where);

/* Whether the kernel under us has rseq(2). Where not, `registered` checks that nobody pretends. */
int kernel_has_rseq(void);

/* The area's cpu_id, as the trio leads to it. */
int cpu_id(void);

/* getcpu(2) itself. */
int cpu_by_call(void);

/*
 * The calling thread is registered, at the area that the trio leads to, with its length: only then is
 * the answer to a second registration EBUSY. All of it async-signal-safe, while it holds.
 */
void registered_now(const char *where);

/* The same, and cpu_id and sched_getcpu agree with getcpu on every CPU that the thread may run on. */
void registered(const char *where);

/* cpu_id is -2, and sched_getcpu is right on every CPU. */
void refused(const char *where);

/* Moves to the CPUs in turn, calling `look` on each with its number. */
void on_each_cpu(void (*look)(const char *where, int cpu), const char *where);

#endif
