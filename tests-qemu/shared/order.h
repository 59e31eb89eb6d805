/* What librseq offers. */
#ifndef ORDER_H
#define ORDER_H

/* The calling thread: 0, or a negative errno. */
int rseq_register_current_thread(void);

#endif
