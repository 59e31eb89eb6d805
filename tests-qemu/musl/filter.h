/* Sandboxes around rseq(2). A libc has none of the kernel's headers: <linux/seccomp.h> and <linux/filter.h>. */
#ifndef FILTER_H
#define FILTER_H

/* A filter's answers to rseq(2); REFUSE takes an errno in its lower half. */
#define KILL_PROCESS 0x80000000u
#define TRAP 0x00030000u
#define REFUSE 0x00050000u

enum { THIS_THREAD = 0, ALL_THREADS = 1 };

/* Not 0: the kernel takes no filter. */
int filter_rseq(unsigned action, int of_whom);

/* Installs a SIGSYS handler that answers trapped calls with ENOSYS, and counts them. */
void answer_traps(void);
extern int trapped;

#endif
