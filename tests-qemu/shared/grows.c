/*
 * The owner, of a version with a longer table: the program was linked with the shorter one. With -DAS_DATA the table
 * itself is exported instead of a pointer, and the program takes a copy of the length at link time.
 */
#include "grows.h"

static int zero(void)
{
	return 0;
}

static const void *nothing(void)
{
	return NULL;
}

static unsigned no_bytes(void)
{
	return 0;
}

#ifdef GROWN
#define TABLE struct grown_table
#define VALUES { { sizeof(TABLE), zero, zero, zero, nothing, no_bytes, zero }, { zero, zero, zero, zero, zero, zero, zero, zero } }
#else
#define TABLE struct rseq_rt_library
#define VALUES { sizeof(TABLE), zero, zero, zero, nothing, no_bytes, zero }
#endif

#ifdef AS_DATA
extern const TABLE table_as_data;
const TABLE table_as_data = VALUES;
#else
static const TABLE table = VALUES;
const struct rseq_rt_library *const rseq_rt_library_v2 = (const struct rseq_rt_library *)&table;
#endif
