/* See table.h. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"

static void add(struct table *t, char *cell)
{
	ensure(cell);
	if (t->at == t->room) {
		t->room = t->room ? t->room * 2 : 64;
		t->cell = realloc(t->cell, t->room * sizeof *t->cell);
		ensure(t->cell);
	}
	t->cell[t->at++] = cell;
}

void table_init(struct table *t, const char *titles)
{
	*t = (struct table){0};
	while (*titles) {
		size_t n = strcspn(titles, "|");

		ensure(t->columns < TABLE_COLUMNS);
		if (*titles == '>') {
			t->right |= 1u << t->columns;
			titles++, n--;
		}
		add(t, strndup(titles, n));
		t->columns++;
		titles += n + (titles[n] == '|');
	}
}

void table_fini(struct table *t)
{
	for (unsigned k = 0; k < t->at; k++)
		free(t->cell[k]);
	free(t->cell);
	*t = (struct table){0};
}

void table_cell(struct table *t, const char *fmt, ...)
{
	va_list args;
	char *cell = NULL;

	va_start(args, fmt);
	ensure(vasprintf(&cell, fmt, args) >= 0);
	va_end(args);
	add(t, cell);
}

void table_print(const struct table *t, FILE *to)
{
	int width[TABLE_COLUMNS] = {0};

	for (unsigned k = 0; k < t->at; k++) {
		int n = (int)strlen(t->cell[k]);

		if (n > width[k % t->columns])
			width[k % t->columns] = n;
	}
	for (unsigned k = 0; k < t->at; k++) {
		unsigned column = k % t->columns;

		if (t->right >> column & 1)
			fprintf(to, "%*s", width[column], t->cell[k]);
		else if (column + 1 < t->columns)
			fprintf(to, "%-*s", width[column], t->cell[k]);
		else
			fputs(t->cell[k], to);
		fputs(column + 1 < t->columns ? "  " : "\n", to);
	}
}
