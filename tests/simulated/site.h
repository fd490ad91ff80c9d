/* SPDX-License-Identifier: Apache-2.0 */
/* Which checks of the simulation have been seen to refuse something. Each names its own
 * place in the sources; a test that plants a fault tells the place from which the text
 * came that it expected. caught.py finds all places in the test programs themselves,
 * where they are text, and what no test has told is a check that may find nothing. */
#ifndef VGG_TEST_SITE_H
#define VGG_TEST_SITE_H

#define VGG__SITE             VGG__SITE_AT(__FILE__, __LINE__)
#define VGG__SITE_AT(f, line) VGG__SITE_TEXT(f, line)
#define VGG__SITE_TEXT(f, l)  "refused at " f ":" #l

#ifdef __cplusplus
extern "C" {
#endif

/* A planted fault was refused there, with the text that its test expects. Written to
 * the file that VGG_CAUGHT names; nothing without. */
void vgg__site_caught(const char *site);

#ifdef __cplusplus
}
#endif

#endif
