/* Filters that come late, and what the kernel says: all of it on the calling thread. */
#ifndef TRAP_H
#define TRAP_H

extern int trapped;

/* Its rseq(2) calls are counted, and not made. */
void trap_rseq(void);

/* Its rseq(2) calls are refused with EPERM. */
void refuse_rseq(void);

/* rseq(2) with the signature of this CPU. */
int raw_rseq(const void *area, unsigned length, int flags);

/* Nothing is registered: the kernel takes another area. */
int kernel_has_none(void);

/* Registers as tcmalloc does: 32 bytes, told to nobody, for as long as the thread lives. */
int hidden_owner(void);

/* Moves to every CPU and compares. */
void on_every_cpu(int (*cpu)(void));

#endif
