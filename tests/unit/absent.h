/* A page of a test's guest memory that is absent, as on a node whose page is elsewhere: who touches it waits. When it is given up it reads as zeros, as memory does
 * once a pager has stopped (mem/pager.h). */
#ifndef TESTS_UNIT_ABSENT_H
#define TESTS_UNIT_ABSENT_H

#include <stdbool.h>

/* The page's bytes are gone. A descriptor, or -1: this host has no userfaultfd for us. */
int absent_page(void *page);

/* Wait until somebody waits for it. */
bool absent_wanted(int absent);

/* It is there, as zeros. */
void absent_give_up(int absent);

#endif
