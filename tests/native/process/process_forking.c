/* process_forking.c - a library that wants to know of forks. */
#include <pthread.h>

__attribute__((visibility("default"))) int forking_prepared, forking_child;

static void prepare(void) { forking_prepared++; }
static void child(void) { forking_child++; }

__attribute__((constructor)) static void register_handlers(void) { pthread_atfork(prepare, NULL, child); }
