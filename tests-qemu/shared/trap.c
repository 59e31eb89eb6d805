#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "trap.h"

/* linux/filter.h and linux/seccomp.h, which a bare musl does not have. */
struct instruction {
	uint16_t code;
	uint8_t if_true, if_false;
	uint32_t operand;
};
struct program {
	unsigned short length;
	struct instruction *code;
};
enum { LOAD_WORD = 0x20, JUMP_IF_EQUAL = 0x15, RETURN = 0x06 };
#define RETURN_TRAP 0x00030000u
#define RETURN_EPERM 0x00050001u
#define RETURN_ALLOW 0x7fff0000u
#define MODE_FILTER 2

int trapped;

static void count(int number)
{
	(void)number;
	__atomic_add_fetch(&trapped, 1, __ATOMIC_RELAXED);
}

static void filter_rseq(uint32_t answer)
{
	/* The number of the call is the first word of what a filter sees. */
	struct instruction code[] = {
		{ LOAD_WORD, 0, 0, 0 },
		{ JUMP_IF_EQUAL, 0, 1, SYS_rseq },
		{ RETURN, 0, 0, answer },
		{ RETURN, 0, 0, RETURN_ALLOW },
	};
	struct program program = { sizeof code / sizeof *code, code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, MODE_FILTER, &program) != 0)
		abort();
}

void trap_rseq(void)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = count;
	if (sigaction(SIGSYS, &action, NULL) != 0)
		abort();
	filter_rseq(RETURN_TRAP);
}

void refuse_rseq(void)
{
	filter_rseq(RETURN_EPERM);
}
