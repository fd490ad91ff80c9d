/* SPDX-License-Identifier: Apache-2.0 */
/* args.json: every setting of a run, so that it can be repeated and resumed. */
#ifndef ARGS_H
#define ARGS_H

#include "settings.h"

/* Write the settings that a run keeps. */
int args_save(const struct settings *s, const char *path);

/* Read them back over the settings, all but those that the user gave. A user's value
 * that differs from the file's is refused, but where the table says it may change.
 * `whole`: every setting must be there. */
int args_load(struct settings *s, const char *path, bool whole);

#endif
