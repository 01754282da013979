/* What a board tells over its serial port. */
#ifndef MBX_REPORT_H
#define MBX_REPORT_H

#include <stdint.h>

/* A word was said: "12.3 s yes 0.99". tenths: of a second since the start. */
void mbx_report_word(const char *word, uint16_t score_q15, uint32_t tenths);

/* A line of text. */
void mbx_report_text(const char *text);

/* A line with a number: "overruns 3". */
void mbx_report_count(const char *what, uint32_t count);

#endif
