/* The interface of librseq. */
#ifndef ORDER_H
#define ORDER_H

/* For the calling thread: 0, or a negative errno. */
int rseq_register_current_thread(void);

#endif
