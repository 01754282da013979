/* A board on this machine whose serial port is stdin and stdout. With HAS_MICROPHONE it hears a sawtooth, else what the
 * host sends. stdin's end ends it. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "mbx_board.h"

static mbx_audio_queue *microphone;

void mbx_board_init(void)
{
}

void mbx_board_audio_start(mbx_audio_queue *queue)
{
    microphone = HAS_MICROPHONE ? queue : NULL;
}

void mbx_board_light(int on)
{
    (void)on;
}

uint32_t mbx_board_uart_write(const uint8_t *data, uint32_t size)
{
    struct pollfd out = {.fd = 1, .events = POLLOUT};
    if (poll(&out, 1, 0) != 1) {
        return 0;
    }
    const ssize_t done = write(1, data, size < 64u ? size : 64u);
    if (done < 0) {
        exit(0); /* the host has gone */
    }
    return (uint32_t)done;
}

uint32_t mbx_board_uart_read(uint8_t *data, uint32_t size)
{
    struct pollfd in = {.fd = 0, .events = POLLIN};
    if (poll(&in, 1, 0) != 1) {
        return 0;
    }
    const ssize_t done = read(0, data, size);
    if (done <= 0) {
        exit(0);
    }
    return (uint32_t)done;
}

void mbx_board_wait(void)
{
    struct pollfd in = {.fd = 0, .events = POLLIN};
    if (microphone == NULL) {
        (void)poll(&in, 1, 1000);
        return;
    }
    static uint32_t phase;
    int16_t samples[160];
    for (uint32_t i = 0; i < 160u; i++) {
        samples[i] = (int16_t)(phase++ % 64u * 512u);
    }
    (void)mbx_audio_queue_push(microphone, samples, 160);
    (void)poll(&in, 1, 2); /* five times as fast as sound */
}
