/* Sandboxes, as they come late or early. */
#ifndef FILTER_H
#define FILTER_H

#include <errno.h>
#include <linux/seccomp.h>

#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))

/* What the calling thread is answered to that system call from now on, SECCOMP_RET_*. Not 0: the kernel takes no filter. */
int filter_call(int number, unsigned action);

/* A SIGSYS handler that answers what was trapped with ENOSYS, and counts. */
void answer_traps(void);
extern int trapped;

#endif
