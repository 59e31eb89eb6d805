/*
 * Lua, which allocates for every value: a state of its own on each thread, by realloc and free as luaL_newstate has it.
 *
 *     lua THREADS TURNS SCRIPT
 *
 * Prints what the script returns to each thread, in the order of their numbers. Every other state is closed by the main
 * thread, so that blocks are freed on another CPU than the one that allocated them.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

enum { MOST = 64 };

static struct part {
	pthread_t thread;
	lua_State *state;
	char *text;
	size_t length;
} parts[MOST];

static const char *script;
static int turns;

static void *run(void *argument)
{
	struct part *part = argument;
	lua_State *state = luaL_newstate();
	const char *text;

	if (!state)
		abort();
	luaL_openlibs(state);
	if (luaL_loadfile(state, script))
		abort();
	lua_pushinteger(state, part - parts);
	lua_pushinteger(state, turns);
	if (lua_pcall(state, 2, 1, 0)) {
		fprintf(stderr, "%s\n", lua_tostring(state, -1));
		abort();
	}
	text = lua_tolstring(state, -1, &part->length);
	part->text = malloc(part->length + 1);
	if (!text || !part->text)
		abort();
	for (size_t i = 0; i < part->length; i++)
		part->text[i] = text[i];
	if ((part - parts) % 2)
		lua_close(state);
	else
		part->state = state;
	return NULL;
}

int main(int count, char **words)
{
	int threads = count == 4 ? atoi(words[1]) : 0, i;

	if (threads < 1 || threads > MOST)
		return 2;
	turns = atoi(words[2]);
	script = words[3];
	for (i = 0; i < threads; i++)
		if (pthread_create(&parts[i].thread, NULL, run, &parts[i]))
			return 1;
	for (i = 0; i < threads; i++) {
		if (pthread_join(parts[i].thread, NULL))
			return 1;
		if (parts[i].state)
			lua_close(parts[i].state);
		printf("%d: ", i);
		fwrite(parts[i].text, 1, parts[i].length, stdout);
		puts("");
		free(parts[i].text);
	}
	return fflush(stdout) != 0;
}
