#include "mbx_report.h"

#include "mbx_board.h"

/* What the port has no room for is lost: audio does not wait for the log. */
static void write_text(const char *text)
{
    uint32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    (void)mbx_board_uart_write((const uint8_t *)text, length);
}

static void write_number(uint32_t value)
{
    char digits[11];
    uint32_t place = sizeof digits - 1u;
    digits[place] = '\0';
    do {
        digits[--place] = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0u);
    write_text(digits + place);
}

void mbx_report_word(const char *word, uint16_t score_q15, uint32_t tenths)
{
    const uint32_t hundredths = (score_q15 * 100u) >> 15;
    write_number(tenths / 10u);
    write_text(".");
    write_number(tenths % 10u);
    write_text(" s ");
    write_text(word);
    write_text(hundredths == 100u ? " 1." : " 0.");
    write_number(hundredths / 10u % 10u);
    write_number(hundredths % 10u);
    write_text("\r\n");
}

void mbx_report_text(const char *text)
{
    write_text(text);
    write_text("\r\n");
}

void mbx_report_count(const char *what, uint32_t count)
{
    write_text(what);
    write_text(" ");
    write_number(count);
    write_text("\r\n");
}
