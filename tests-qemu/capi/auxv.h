/* auxv of this process. _GNU_SOURCE is defined before the first header. */
#ifndef AUXV_H
#define AUXV_H

#include <unistd.h>

/* The kernel lays it above the environment, which is the way a libc's start finds it. */
static inline const unsigned long *auxv(void)
{
	char **next = environ;
	while (*next++)
		;
	return (const unsigned long *)next;
}

#endif
