/* A board under QEMU: the microphone's bits are a file, and so is what the serial port sends. The rest is what ships: the
 * main loop, the decision, the report, the decimator, the queue.
 *
 * bits.bin: blocks in a burst (uint32), then the words of a PDM microphone. What a DMA and its interrupt would do in the
 * meantime is done in mbx_board_wait(): a burst of blocks arrives at once.
 */
#include "mbx_board.h"
#include "mbx_light.h"
#include "mbx_pdm.h"
#include "semihosting.h"

#define BLOCK_SAMPLES 160u
#define BLOCK_WORDS (BLOCK_SAMPLES * MBX_PDM_WORDS_PER_SAMPLE)
#define GAIN_Q4 160

static uint16_t blocks[2][BLOCK_WORDS];
static int16_t samples[BLOCK_SAMPLES];
static mbx_double_buffer hand_over;
static mbx_pdm pdm;
static mbx_audio_queue *audio;
static uint32_t active, burst;
static int32_t bits_file, samples_file, log_file, light_file;

static int32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const int32_t handle = semihosting_open(name, length, mode);
    if (handle < 0) {
        semihosting_exit(3);
    }
    return handle;
}

#define OPEN(name, mode) open_file(name, sizeof name - 1u, mode)

void mbx_board_init(void)
{
}

void mbx_board_audio_start(mbx_audio_queue *queue)
{
    audio = queue;
    mbx_double_buffer_init(&hand_over);
    mbx_pdm_init(&pdm, GAIN_Q4);
    bits_file = OPEN("bits.bin", 1u);
    samples_file = OPEN("samples.bin", 5u);
    log_file = OPEN("log.txt", 5u);
    light_file = OPEN("light.bin", 5u);
    if (semihosting_read(bits_file, &burst, sizeof burst) != 0u) {
        semihosting_exit(4);
    }
}

void mbx_board_light(int on)
{
    const uint8_t byte = (uint8_t)on;
    (void)semihosting_write(light_file, &byte, 1);
}

uint32_t mbx_board_uart_write(const uint8_t *data, uint32_t size)
{
    return size - semihosting_write(log_file, data, size);
}

uint32_t mbx_board_uart_read(uint8_t *data, uint32_t size)
{
    (void)data;
    (void)size;
    return 0;
}

void mbx_board_wait(void)
{
    for (uint32_t i = 0; i < burst; i++) {
        if (semihosting_read(bits_file, blocks[active], sizeof blocks[active]) != 0u) {
            if (i == 0u) {
                semihosting_exit(audio->missed_blocks != 0u ? 5 : 0);
            }
            return;
        }
        active ^= 1u;
        const uint32_t complete = mbx_double_buffer_take(&hand_over, active, audio, BLOCK_SAMPLES);
        mbx_pdm_decimate(&pdm, blocks[complete], samples, BLOCK_SAMPLES);
        (void)semihosting_write(samples_file, samples, sizeof samples);
        (void)mbx_audio_queue_push(audio, samples, BLOCK_SAMPLES);
        mbx_light_pass(BLOCK_SAMPLES);
    }
}
