/* The auxv of this process. _GNU_SOURCE is defined before the first header. */
#ifndef AUXV_H
#define AUXV_H

#include <unistd.h>

/* The kernel places it above the environment, where a libc's start code finds it. */
static inline const unsigned long *auxv(void)
{
	char **next = environ;
	while (*next++)
		;
	return (const unsigned long *)next;
}

#endif
