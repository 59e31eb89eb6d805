/* Sandboxes, installed early or late. */
#ifndef FILTER_H
#define FILTER_H

#include <errno.h>
#include <linux/seccomp.h>

#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))

/* Answers that system call of the calling thread from now on by SECCOMP_RET_*. Not 0: the kernel takes no filter. */
int filter_call(int number, unsigned action);

/* Installs a SIGSYS handler that answers trapped calls with ENOSYS, and counts them. */
void answer_traps(void);
extern int trapped;

#endif
