/* Events and actions of the page machine as text, so that a trace test reads like the story it tells and a counterexample can be read aloud.
 *
 *   events   read write prefetch evict hold_end   "2:get_s"  "0:grant_m data"  "1:write_back zero"      (FROM:MESSAGE [BYTES])
 *   actions  "protect, take, zap, data>0 taken"   "install S data, hold"   "upgrade, hold"   "grant_s>2 zero"   "wake"
 */
#ifndef TESTS_PAGE_TEXT_H
#define TESTS_PAGE_TEXT_H

#include "proto/page.h"

enum { PAGE_TEXT_BYTES = 1024 };

/* -1 if the text is no event. */
int page_text_event(const char *text, struct page_event *ev) MUST_CHECK;
const char *page_text_of_event(const struct page_event *ev, char to[PAGE_TEXT_BYTES]);
const char *page_text_of_actions(const struct page_actions *a, char to[PAGE_TEXT_BYTES]);

#endif
