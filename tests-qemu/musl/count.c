/*
 * Counts the system calls of threads under ptrace: "joinable" or "detached". Prints "@count PHASE CALL TIMES" lines,
 * where the phase is the parent's, a thread's birth, or its end.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 100
#define CALLS 512

/* A call that no other code makes. */
#define MARK(what) syscall(SYS_getpgid, MARKS + (what))
#define MARKS 0x7e570000
enum { BEGIN, BODY, END };

enum { PARENT, BIRTH, DEATH, PHASES, NOT_COUNTED };
static const char *const phases[PHASES] = { "parent", "birth", "death" };

static volatile int ended;

static void *body(void *argument)
{
	MARK(BODY);
	__atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
	return argument;
}

/* The kernel's count for this process. */
static int threads(void)
{
	char line[128];
	int number = 0;
	FILE *file = fopen("/proc/self/status", "r");
	if (file == NULL)
		_exit(5);
	while (number == 0 && fgets(line, sizeof line, file))
		sscanf(line, "Threads: %d", &number);
	fclose(file);
	return number;
}

static void traced(int detached)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int i;
	pthread_attr_init(&attributes);
	/* The first thread of a process costs more. */
	pthread_create(&thread, NULL, body, NULL);
	pthread_join(thread, NULL);
	ended = 0;
	if (detached)
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	MARK(BEGIN);
	for (i = 0; i < ROUNDS; i++) {
		if (pthread_create(&thread, &attributes, body, NULL) != 0)
			_exit(3);
		if (!detached && pthread_join(thread, NULL) != 0)
			_exit(4);
		/* Without a call, which would be counted. */
		while (ended <= i)
			;
	}
	MARK(END);
	/* Detached threads are still exiting. */
	while (threads() > 1)
		usleep(1000);
	_exit(0);
}

static struct task {
	pid_t tid;
	int phase;
} tasks[ROUNDS * 2];

static struct task *task_of(pid_t tid, int phase)
{
	int i;
	for (i = 0; i < ROUNDS * 2 - 1; i++)
		if (tasks[i].tid == tid || tasks[i].tid == 0)
			break;
	if (tasks[i].tid == 0) {
		tasks[i].tid = tid;
		tasks[i].phase = phase;
	}
	return &tasks[i];
}

static unsigned counts[PHASES][CALLS];

static void entered(struct task *task, pid_t leader, const struct __ptrace_syscall_info *call, int *counting)
{
	unsigned long number = call->entry.nr;
	if (number == SYS_getpgid && (call->entry.args[0] & ~3ul) == MARKS) {
		int mark = call->entry.args[0] & 3;
		if (mark == BODY && task->phase == BIRTH)
			task->phase = DEATH;
		if (mark == BEGIN)
			*counting = 1, task->phase = PARENT;
		if (mark == END)
			task->phase = NOT_COUNTED;
		return;
	}
	if (task->tid != leader && task->phase == NOT_COUNTED)
		return;
	if (task->phase < PHASES && number < CALLS)
		counts[task->phase][number]++;
}

static int trace(pid_t leader)
{
	int status, counting = 0;
	task_of(leader, NOT_COUNTED);
	waitpid(leader, &status, 0);
	if (ptrace(PTRACE_SETOPTIONS, leader, NULL,
		   (void *)(long)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)) != 0)
		return -1;
	ptrace(PTRACE_SYSCALL, leader, NULL, NULL);
	for (;;) {
		struct __ptrace_syscall_info call;
		pid_t tid = waitpid(-1, &status, __WALL);
		long pass = 0;
		if (tid < 0)
			return -1;
		if (!WIFSTOPPED(status)) {
			if (tid == leader)
				return status;
			task_of(tid, NOT_COUNTED)->tid = -1;
			continue;
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			memset(&call, 0, sizeof call);
			ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof call, &call);
			if (call.op == PTRACE_SYSCALL_INFO_ENTRY)
				entered(task_of(tid, counting ? BIRTH : NOT_COUNTED), leader, &call, &counting);
		} else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
			pass = WSTOPSIG(status);
		}
		ptrace(PTRACE_SYSCALL, tid, NULL, (void *)pass);
	}
}

static const char *kind(int call)
{
	return call == SYS_rseq ? "rseq=" : call == SYS_rt_sigprocmask ? "mask=" : call == SYS_futex ? "futex=" : "";
}

int main(int count, char **arguments)
{
	int detached = count == 2 && !strcmp(arguments[1], "detached"), phase, call, status;
	pid_t child = fork();
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(2);
		raise(SIGSTOP);
		traced(detached);
	}
	status = trace(child);
	for (phase = 0; phase < PHASES; phase++)
		for (call = 0; call < CALLS; call++)
			if (counts[phase][call])
				printf("@count %s %s%d %u\n", phases[phase], kind(call), call, counts[phase][call]);
	return status != 0;
}
