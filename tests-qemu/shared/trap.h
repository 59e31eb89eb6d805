/* Counts the rseq(2) calls of one thread, and refuses them: as a sandbox that comes late. */
#ifndef TRAP_H
#define TRAP_H

extern int trapped;

/* From now on, on the calling thread. */
void trap_rseq(void);

#endif
