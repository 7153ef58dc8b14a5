/* Plain aligned tables for people. Cells are copied; columns are as wide as their widest cell, numbers are right-aligned. One thread. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdio.h>

#include "base/types.h"

enum { TABLE_COLUMNS = 20 };

struct table {
	unsigned columns, room, at; /* at: cells so far */
	char **cell;              /* row by row, the titles first */
	uint32_t right;                   /* a bit per right-aligned column */
};

/* Titles separated by '|'; a title that begins with '>' makes its column right-aligned. */
void table_init(struct table *t, const char *titles);
void table_fini(struct table *t);

/* The next cell of the current row; a row is full after as many as there are titles. */
void table_cell(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
void table_print(const struct table *t, FILE *to);

#endif
