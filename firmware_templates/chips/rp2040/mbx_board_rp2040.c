/* Clock, light, serial port and microphone of a board with an RP2040. Pins and gain: the board's mbx_pins.h. */
#include "mbx_board.h"
#include "mbx_light.h"
#include "mbx_pdm.h"
#include "mbx_pins.h"
#include "mbx_rp2040.h"
#include "mbx_serial.h"

#define SYSTEM_CLOCK_HZ 128000000u /* 12 MHz * 128 / 6 / 2: 62.5 cycles a bit of the microphone */
#define BLOCK_SAMPLES 256u         /* 16 ms; its words are 2^12 bytes, which the DMA can wrap around */
#define BLOCK_WORDS (BLOCK_SAMPLES * MBX_PDM_WORDS_PER_SAMPLE)
#define BLOCK_ADDRESS_BITS 12u

void mbx_interrupt_uart(void);
void mbx_interrupt_dma(void);

static void release_reset(uint32_t blocks)
{
    MBX_REGISTER(RESETS_RESET + RP2040_SET) = blocks;
    MBX_REGISTER(RESETS_RESET + RP2040_CLEAR) = blocks;
    MBX_WAIT_FOR((RESETS_RESET_DONE & blocks) == blocks);
}

void mbx_board_light(int on)
{
    if (on) {
        SIO_GPIO_OUT_SET = 1u << MBX_PIN_LIGHT;
    } else {
        SIO_GPIO_OUT_CLR = 1u << MBX_PIN_LIGHT;
    }
}

void mbx_board_clock(void)
{
    release_reset(RESETS_IO_BANK0 | RESETS_PADS_BANK0);
    mbx_board_light(0);
    SIO_GPIO_OE_SET = 1u << MBX_PIN_LIGHT;
    IO_BANK0_CTRL(MBX_PIN_LIGHT) = GPIO_FUNCTION_SIO;
    XOSC_STARTUP = 47u * 64u; /* 64 ms: crystals of some boards are slow to start */
    XOSC_CTRL = XOSC_CTRL_ENABLE_1_15MHZ;
    MBX_WAIT_FOR((XOSC_STATUS & XOSC_STATUS_STABLE) != 0u);
    CLOCKS_CLK_SYS_CTRL = CLOCKS_CLK_SYS_REF;
    MBX_WAIT_FOR(CLOCKS_CLK_SYS_SELECTED == 1u << CLOCKS_CLK_SYS_REF);
    CLOCKS_CLK_REF_CTRL = CLOCKS_CLK_REF_XOSC;
    MBX_WAIT_FOR(CLOCKS_CLK_REF_SELECTED == 1u << CLOCKS_CLK_REF_XOSC);
    release_reset(RESETS_PLL_SYS);
    PLL_SYS_CS = 1; /* reference: 12 MHz / 1 */
    PLL_SYS_FBDIV_INT = 128; /* 1536 MHz, of 750 to 1600 */
    MBX_REGISTER(PLL_SYS_PWR + RP2040_CLEAR) = PLL_PWR_PD | PLL_PWR_VCOPD;
    MBX_WAIT_FOR((PLL_SYS_CS & PLL_CS_LOCK) != 0u);
    PLL_SYS_PRIM = PLL_PRIM(6u, 2u);
    MBX_REGISTER(PLL_SYS_PWR + RP2040_CLEAR) = PLL_PWR_POSTDIVPD;
    CLOCKS_CLK_SYS_CTRL = CLOCKS_CLK_SYS_AUX;
    MBX_WAIT_FOR(CLOCKS_CLK_SYS_SELECTED == 1u << CLOCKS_CLK_SYS_AUX);
    CLOCKS_CLK_PERI_CTRL = CLOCKS_CLK_PERI_ENABLE;
}

/* --- serial port --- */

static void init_uart(void)
{
    PADS_BANK0(MBX_PIN_UART_RX) = PADS_INPUT_PULLUP;
    IO_BANK0_CTRL(MBX_PIN_UART_TX) = GPIO_FUNCTION_UART;
    IO_BANK0_CTRL(MBX_PIN_UART_RX) = GPIO_FUNCTION_UART;
    const uint32_t divisor_q6 = (SYSTEM_CLOCK_HZ * 4u + MBX_UART_BAUD / 2u) / MBX_UART_BAUD; /* 64 / 16 = 4 */
    UART0_IBRD = divisor_q6 >> 6;
    UART0_FBRD = divisor_q6 & 63u;
    UART0_LCR_H = UART_LCR_H_8_BITS_FIFO;
    UART0_CR = UART_CR_ENABLE_RX_TX;
    UART0_IMSC = UART_INT_RX | UART_INT_RX_TIMEOUT;
    mbx_enable_interrupt(UART0_INTERRUPT, MBX_PRIORITY_SERIAL);
}

/* Fills the port's FIFO. Its interrupt, when it runs low, is wanted only while more waits. */
void mbx_serial_kick(void)
{
    while ((UART0_FR & UART_FR_TXFF) == 0u) {
        const int byte = mbx_byte_ring_get(&mbx_serial_tx);
        if (byte < 0) {
            UART0_IMSC = UART_INT_RX | UART_INT_RX_TIMEOUT;
            return;
        }
        UART0_DR = (uint32_t)byte;
    }
    UART0_IMSC = UART_INT_RX | UART_INT_RX_TIMEOUT | UART_INT_TX;
}

void mbx_interrupt_uart(void)
{
    UART0_ICR = UART_INT_RX | UART_INT_RX_TIMEOUT | UART_INT_TX;
    while ((UART0_FR & UART_FR_RXFE) == 0u) {
        mbx_serial_received((uint8_t)UART0_DR);
    }
    mbx_serial_kick();
}

void mbx_board_init(void)
{
    release_reset(RESETS_UART0 | RESETS_PIO0 | RESETS_DMA);
    init_uart();
}

/* --- microphone --- */

static uint16_t blocks[2][BLOCK_WORDS] __attribute__((aligned(1u << BLOCK_ADDRESS_BITS)));
static int16_t samples[BLOCK_SAMPLES];
static mbx_double_buffer hand_over;
static mbx_pdm pdm;
static mbx_audio_queue *audio;

/* A bit a clock: the clock rises and the bit that was there while it was low is taken, then it falls. Five cycles each.
 * Encoding: RP2040 datasheet, section 3.4.
 *     in pins, 1  side 1 [4]
 *     nop         side 0 [4]     (mov y, y) */
#define PIO_IN_PINS_1_SIDE_1_DELAY_4 0x5401u
#define PIO_NOP_SIDE_0_DELAY_4 0xA442u
#define PIO_SET_PINDIRS_1 0xE081u
#define PIO_CYCLES_PER_BIT 10u

/* CLKDIV is Q8 from bit 8 on: 128 MHz / 2.048 MHz / 10 cycles = 6.25. Bits of 62 and 63 cycles take turns: 8 ns of a period
 * of 488. */
#define PIO_CLKDIV ((SYSTEM_CLOCK_HZ / (MBX_PDM_CLOCK_HZ / 256u) / PIO_CYCLES_PER_BIT) << 8)

static void start_pio(void)
{
    IO_BANK0_CTRL(MBX_PIN_PDM_CLK) = GPIO_FUNCTION_PIO0;
    IO_BANK0_CTRL(MBX_PIN_PDM_DIN) = GPIO_FUNCTION_PIO0;
    PIO0_INSTR_MEM(0u) = PIO_IN_PINS_1_SIDE_1_DELAY_4;
    PIO0_INSTR_MEM(1u) = PIO_NOP_SIDE_0_DELAY_4;
    PIO0_SM0_CLKDIV = PIO_CLKDIV;
    PIO0_SM0_EXECCTRL = PIO_EXECCTRL_WRAP(1u, 0u);
    /* To the left, so that the earliest of 16 bits is on top; into a FIFO of eight. */
    PIO0_SM0_SHIFTCTRL = PIO_SHIFTCTRL_FJOIN_RX | PIO_SHIFTCTRL_PUSH_THRESHOLD(16u) | PIO_SHIFTCTRL_AUTOPUSH;
    /* SIDESET_COUNT 1, SET_COUNT 1, IN_BASE, SIDESET_BASE, SET_BASE */
    PIO0_SM0_PINCTRL = (1u << 29) | (1u << 26) | (MBX_PIN_PDM_DIN << 15) | (MBX_PIN_PDM_CLK << 10) | (MBX_PIN_PDM_CLK << 5);
    PIO0_SM0_INSTR = PIO_SET_PINDIRS_1;
    PIO0_CTRL = 1;
}

/* Two channels, each of a block, start each other; each wraps around in its own block, whoever is late. */
static uint32_t dma_control(uint32_t other)
{
    return DMA_CTRL_EN | DMA_CTRL_HALFWORDS | DMA_CTRL_INCR_WRITE | DMA_CTRL_WRITE_RING(BLOCK_ADDRESS_BITS) |
           DMA_CTRL_CHAIN_TO(other) | DMA_CTRL_TREQ_PIO0_RX0;
}

void mbx_board_audio_start(mbx_audio_queue *queue)
{
    audio = queue;
    mbx_double_buffer_init(&hand_over);
    mbx_pdm_init(&pdm, MBX_MICROPHONE_GAIN_Q4);
    for (uint32_t channel = 0; channel < 2u; channel++) {
        DMA_READ_ADDR(channel) = PIO0_RXF0;
        DMA_WRITE_ADDR(channel) = (uint32_t)(uintptr_t)blocks[channel];
        DMA_TRANS_COUNT(channel) = BLOCK_WORDS;
    }
    DMA_INTE0 = 3u;
    mbx_enable_interrupt(DMA_INTERRUPT, MBX_PRIORITY_AUDIO);
    DMA_AL1_CTRL(1u) = dma_control(0u);
    DMA_CTRL_TRIG(0u) = dma_control(1u);
    start_pio();
}

void mbx_interrupt_dma(void)
{
    DMA_INTS0 = DMA_INTS0; /* bits are cleared by writing them */
    const uint32_t active = (DMA_CTRL_TRIG(0u) & DMA_CTRL_BUSY) != 0u ? 0u : 1u;
    const uint32_t complete = mbx_double_buffer_take(&hand_over, active, audio, BLOCK_SAMPLES);
    mbx_pdm_decimate(&pdm, blocks[complete], samples, BLOCK_SAMPLES);
    (void)mbx_audio_queue_push(audio, samples, BLOCK_SAMPLES);
    mbx_light_pass(BLOCK_SAMPLES);
}
