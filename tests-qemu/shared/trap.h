/* Filters that come late, on the calling thread. */
#ifndef TRAP_H
#define TRAP_H

extern int trapped;

/* Its rseq(2) calls are counted, and not made. */
void trap_rseq(void);

/* Its rseq(2) calls are refused with EPERM. */
void refuse_rseq(void);

#endif
