/* first.h - our fork handlers before everybody else's. */
#ifndef MHI_FIRST_H
#define MHI_FIRST_H
#include <stdbool.h>

/* Moves the handlers that the caller has just registered by pthread_atfork before all that were registered earlier,
 * whose order stays as it was. False if they could not be found beyond doubt: then nothing has changed. For the time
 * while no other thread forks or registers handlers. Adds one more handler, which does nothing. */
bool mhi_first_move_to_front(void (*prepare)(void), void (*parent)(void), void (*child)(void));

#endif
