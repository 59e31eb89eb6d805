/* The program's own thread keys. */
#include <pthread.h>
#include <stddef.h>

#include "../capi/check.h"
#include "keys.h"

void exhaust_keys(void)
{
	pthread_key_t key;
	int made = 0;
	while (pthread_key_create(&key, NULL) == 0)
		made++;
	CHECK(made > 0);
}

void keep_value(void)
{
	static pthread_key_t key;
	static int kept, value;
	if (!kept) {
		CHECK_IS(pthread_key_create(&key, NULL), 0);
		CHECK_IS(pthread_setspecific(key, &value), 0);
		kept = 1;
	}
	CHECK(pthread_getspecific(key) == &value);
}
