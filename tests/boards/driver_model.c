/* A board's driver against a model of its chip, on a Cortex-M under QEMU: every register is a word of memory here, and what
 * the manual says that the hardware does with the microphone's blocks is done by hand. What the driver queues must be what
 * came, in order; the registers that it wrote are told, for the test to look at.
 */
#include <string.h>

#include "driver_model.h"
#include "mbx_board.h"
#include "mbx_cortexm.h"
#include "mbx_serial.h"
#include "semihosting.h"

#define REGISTERS 160u
#define BLOCKS 30u

static uint32_t addresses[REGISTERS];
static volatile uint32_t values[REGISTERS];
static uint32_t count;
static volatile uint32_t ready;

static volatile uint32_t *word_of(uint32_t address)
{
    for (uint32_t i = 0; i < count; i++) {
        if (addresses[i] == address) {
            return &values[i];
        }
    }
    if (count == REGISTERS) {
        semihosting_exit(10);
    }
    addresses[count] = address;
    return &values[count++];
}

/* What a chip does by itself before a driver looks: clocks come up, switches follow. */
volatile uint32_t *driver_model_register(uint32_t address)
{
    volatile uint32_t *word = word_of(address);
    switch (address) {
    case 0x40000100u: /* nRF52840: HFCLKSTARTED */
    case 0x4000C008u: /* RP2040: RESET_DONE */
    case 0x40024004u: /* XOSC: STABLE */
        ready = UINT32_MAX;
        return &ready;
    case 0x40028000u: /* PLL_SYS: LOCK */
        *word |= 1u << 31;
        return word;
    case 0x40008038u: /* CLK_REF_SELECTED */
        *word = 1u << *word_of(0x40008030u);
        return word;
    case 0x40008044u: /* CLK_SYS_SELECTED */
        *word = 1u << *word_of(0x4000803Cu);
        return word;
    case 0x40023800u: /* STM32: RCC_CR, each ready flag above its switch */
        *word |= (*word & 0x05010000u) << 1;
        return word;
    case 0x40023808u: /* RCC_CFGR: SWS follows SW */
        *word = (*word & ~0xCu) | ((*word & 3u) << 2);
        return word;
    default:
        return word;
    }
}

static mbx_audio_queue queue;
static uint32_t seed = 1;

static uint16_t draw(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint16_t)(seed >> 16);
}

static void write_file(const char *name, uint32_t length, const void *data, uint32_t bytes)
{
    const int32_t handle = semihosting_open(name, length, 5u);
    if (handle < 0 || semihosting_write(handle, data, bytes) != 0u) {
        semihosting_exit(11);
    }
}

#define WRITE_FILE(name, data, bytes) write_file(name, sizeof name - 1u, data, bytes)

#if defined(MODEL_NRF52840)

void mbx_interrupt_pdm(void);

#define BLOCK_WORDS 160u

/* A chip of revision 3 whose UICR leaves the debug port open, behind a bootloader that left the port on as UARTE: it never
 * says that it has stopped. */
static void prepare(void)
{
    *word_of(0x10000130u) = 8;
    *word_of(0x10000134u) = 3;
    *word_of(0x10001208u) = 0x5A;
    *word_of(0x40002500u) = 8;
}

/* Product Specification 6.15.4: at the start, and at each END, SAMPLE.PTR is latched and STARTED is told. END comes a moment
 * before: an interrupt that came for it alone would find nothing to do. */
static uint32_t latched;

static void latch(void)
{
    latched = *word_of(0x4001D560u);
    *word_of(0x4001D100u) = 1;
}

static void model_start(void)
{
    latch();
    mbx_interrupt_pdm();
}

static void model_block(const uint16_t *words)
{
    memcpy((void *)(uintptr_t)latched, words, 2u * BLOCK_WORDS);
    *word_of(0x4001D108u) = 1;
    mbx_interrupt_pdm();
    latch();
    mbx_interrupt_pdm();
    if (*word_of(0x4001D100u) != 0u) {
        semihosting_exit(12);
    }
}

#elif defined(MODEL_STM32F407)

void mbx_interrupt_dma(void);

#define BLOCK_WORDS 1280u
#define CT (1u << 19)

static void prepare(void)
{
    *word_of(0xE0042000u) = 0x10076413u; /* a revision whose prefetch works */
}

static void model_start(void)
{
}

/* RM0090 10.3.9: in double-buffer mode CT changes at the end of each block. */
static void model_block(const uint16_t *words)
{
    volatile uint32_t *control = word_of(0x40026058u);
    const uint32_t target = *word_of((*control & CT) != 0u ? 0x40026068u : 0x40026064u);
    memcpy((void *)(uintptr_t)target, words, 2u * BLOCK_WORDS);
    *control ^= CT;
    mbx_interrupt_dma();
}

#else

void mbx_interrupt_dma(void);

#define BLOCK_WORDS 2048u
#define BUSY (1u << 24)
#define RING_BYTES 4096u

static uint32_t channel;

static void prepare(void)
{
}

static void model_start(void)
{
    *word_of(0x5000000Cu) |= BUSY;
}

/* RP2040 datasheet 2.5.1: a channel's write address goes on where it stopped, wrapped to the ring; its end starts the
 * other one. */
static void model_block(const uint16_t *words)
{
    volatile uint32_t *address = word_of(0x50000004u + 0x40u * channel);
    for (uint32_t i = 0; i < BLOCK_WORDS; i++) {
        memcpy((void *)(uintptr_t)*address, words + i, 2u);
        *address = (*address & ~(RING_BYTES - 1u)) | ((*address + 2u) & (RING_BYTES - 1u));
    }
    *word_of(0x5000000Cu) = channel == 0u ? *word_of(0x5000000Cu) & ~BUSY : *word_of(0x5000000Cu) | BUSY;
    channel ^= 1u;
    mbx_interrupt_dma();
}

#endif

int main(void)
{
    static uint16_t words[BLOCKS][BLOCK_WORDS];
    prepare();
    mbx_board_clock();
    mbx_board_init();
    mbx_board_light(1);
    (void)mbx_board_uart_write((const uint8_t *)"hello", 5u);
    mbx_audio_queue_init(&queue);
    mbx_board_audio_start(&queue);
    model_start();
    for (uint32_t block = 0; block < BLOCKS; block++) {
        for (uint32_t i = 0; i < BLOCK_WORDS; i++) {
            words[block][i] = draw();
        }
        model_block(words[block]);
    }
    WRITE_FILE("words.bin", words, sizeof words);
    WRITE_FILE("samples.bin", queue.samples, 2u * mbx_audio_queue_waiting(&queue));
    WRITE_FILE("addresses.bin", addresses, 4u * count);
    WRITE_FILE("values.bin", (const void *)(uintptr_t)values, 4u * count);
    return queue.overrun_blocks != 0u;
}
