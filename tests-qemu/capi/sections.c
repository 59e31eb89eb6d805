/* examples/c/sections.c as PID 1, which prints its result. */
#define main sections_of_ones_own
#include "../../examples/c/sections.c"
#undef main

#include <stdio.h>
#include <termios.h>
#include <unistd.h>

int main(void)
{
	int failed = sections_of_ones_own();

	printf("sections_of_ones_own: %s\n", failed ? "failed" : "passed");
	fflush(stdout);
	/* The end of PID 1 is the end of the machine, and the console is slower. */
	tcdrain(STDOUT_FILENO);
	return failed;
}
