/* The /bin/sh of a machine without one: "exit N" and "echo WORD". 99: it was not registered itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rseq.h"

int main(int count, char **arguments)
{
	const char *script = count == 3 && !strcmp(arguments[1], "-c") ? arguments[2] : "";
	if (__rseq_size == 0 || *(volatile int *)((char *)__builtin_thread_pointer() + __rseq_offset + 4) < 0)
		return 99;
	if (!strncmp(script, "exit ", 5))
		return atoi(script + 5);
	if (!strncmp(script, "echo ", 5))
		return puts(script + 5) < 0;
	return 98;
}
