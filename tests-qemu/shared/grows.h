/* A table of a later version: today's, and later calls. */
#ifndef GROWS_H
#define GROWS_H

#include "rseq_rt_library.h"

struct grown_table {
	struct rseq_rt_library table;
	int (*later[8])(void);
};

#endif
