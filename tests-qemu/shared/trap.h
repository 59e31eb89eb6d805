/* Late filters, and the kernel's answers: all on the calling thread. */
#ifndef TRAP_H
#define TRAP_H

extern int trapped;

/* Counts its rseq(2) calls instead of making them. */
void trap_rseq(void);

/* Refuses its rseq(2) calls with EPERM. */
void refuse_rseq(void);

/* rseq(2) with the signature of this CPU. */
int raw_rseq(const void *area, unsigned length, int flags);

/* Whether nothing is registered: the kernel accepts another area. */
int kernel_has_none(void);

/* Registers as tcmalloc does: 32 bytes, unknown to other code, for as long as the thread lives. */
int hidden_owner(void);

/* Moves to every CPU and compares. */
void on_every_cpu(int (*cpu)(void));

#endif
