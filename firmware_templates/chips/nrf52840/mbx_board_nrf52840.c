/* Clock, light, serial port and microphone of a board with an nRF52840. Pins and gain: the board's mbx_pins.h. */
#include "mbx_board.h"
#include "mbx_light.h"
#include "mbx_microphone.h"
#include "mbx_nrf52840.h"
#include "mbx_pins.h"
#include "mbx_serial.h"

#define BLOCK_SAMPLES 160u /* 10 ms */

void mbx_interrupt_uart(void);
void mbx_interrupt_pdm(void);

static void configure_output(uint32_t pin)
{
    GPIO_DIRSET(pin) = GPIO_BIT(pin);
    GPIO_PIN_CNF(pin) = GPIO_PIN_CNF_OUTPUT;
}

void mbx_board_light(int on)
{
    if ((on != 0) == (MBX_PIN_LIGHT_ON_LEVEL != 0)) {
        GPIO_OUTSET(MBX_PIN_LIGHT) = GPIO_BIT(MBX_PIN_LIGHT);
    } else {
        GPIO_OUTCLR(MBX_PIN_LIGHT) = GPIO_BIT(MBX_PIN_LIGHT);
    }
}

/* A chip of revision 3 keeps its debug port closed after each reset until its firmware opens it, and UICR allows that: a
 * board that was flashed once could not be flashed again. As Nordic's start-up code does it; earlier revisions have no such
 * register. */
static void open_debug_port(void)
{
    if (FICR_CHIP == FICR_CHIP_NRF52840 && FICR_REVISION >= FICR_REVISION_3) {
        APPROTECT_DISABLE = UICR_APPROTECT;
    }
}

void mbx_board_clock(void)
{
    open_debug_port();
    mbx_board_light(0);
    configure_output(MBX_PIN_LIGHT);
    NVMC_ICACHECNF = NVMC_ICACHECNF_CACHEEN;
    CLOCK_EVENTS_HFCLKSTARTED = 0;
    CLOCK_TASKS_HFCLKSTART = 1; /* the crystal: the sample rate and the baud rate derive from it */
    MBX_WAIT_FOR(CLOCK_EVENTS_HFCLKSTARTED != 0u);
}

/* --- serial port --- */

static volatile int sending;

#define STOP_TURNS 100000u /* some 10 ms: a byte at 1,200 baud */

/* A bootloader may have left the port on, as UARTE, whose DMA would write on into our memory. What can't be stopped is
 * switched off. */
static void stop_uart(void)
{
    const uint32_t enabled = UART_ENABLE;
    UART_INTENCLR = UINT32_MAX;
    if (enabled != 0u) {
        UART_EVENTS_RXTO = 0;
        UARTE_EVENTS_TXSTOPPED = 0;
        UART_TASKS_STOPRX = 1;
        UART_TASKS_STOPTX = 1;
        for (uint32_t turns = 0; enabled == UARTE_ENABLE_ENABLED && turns < STOP_TURNS &&
                                 (UARTE_EVENTS_TXSTOPPED == 0u || UART_EVENTS_RXTO == 0u);
             turns++) {
        }
        UART_ENABLE = 0;
    }
}

static void init_uart(void)
{
    stop_uart();
    GPIO_OUTSET(MBX_PIN_UART_TX) = GPIO_BIT(MBX_PIN_UART_TX); /* idle is high */
    configure_output(MBX_PIN_UART_TX);
    GPIO_PIN_CNF(MBX_PIN_UART_RX) = GPIO_PIN_CNF_INPUT_PULLUP;
    UART_PSEL_TXD = MBX_PIN_UART_TX;
    UART_PSEL_RXD = MBX_PIN_UART_RX;
    UART_PSEL_RTS = UART_PSEL_DISCONNECTED;
    UART_PSEL_CTS = UART_PSEL_DISCONNECTED;
    UART_BAUDRATE = UART_BAUDRATE_1M;
    UART_CONFIG = UART_CONFIG_8N1;
    UART_ENABLE = UART_ENABLE_ENABLED;
    UART_EVENTS_RXDRDY = 0;
    UART_EVENTS_TXDRDY = 0;
    UART_EVENTS_ERROR = 0;
    UART_INTENSET = UART_INT_RXDRDY | UART_INT_TXDRDY | UART_INT_ERROR;
    mbx_enable_interrupt(UART_INTERRUPT, MBX_PRIORITY_SERIAL);
    UART_TASKS_STARTRX = 1;
    UART_TASKS_STARTTX = 1;
}

static void send_next(void)
{
    const int byte = mbx_byte_ring_get(&mbx_serial_tx);
    sending = byte >= 0;
    if (byte >= 0) {
        UART_TXD = (uint32_t)byte;
    }
}

void mbx_serial_kick(void)
{
    if (!sending) {
        send_next();
    }
}

void mbx_interrupt_uart(void)
{
    if (UART_EVENTS_ERROR != 0u) {
        UART_EVENTS_ERROR = 0;
        UART_ERRORSRC = UART_ERRORSRC; /* bits are cleared by writing them */
    }
    while (UART_EVENTS_RXDRDY != 0u) {
        UART_EVENTS_RXDRDY = 0; /* before RXD is read: it comes again for the next byte of the FIFO */
        mbx_serial_received((uint8_t)UART_RXD);
    }
    if (UART_EVENTS_TXDRDY != 0u) {
        UART_EVENTS_TXDRDY = 0;
        send_next();
    }
}

void mbx_board_init(void)
{
    init_uart();
}

/* --- microphone --- */

static int16_t blocks[2][BLOCK_SAMPLES];
static uint32_t next_block; /* that the PDM takes when the one it fills is full */
static int filling;         /* not 0 from the first STARTED on */
static mbx_pcm pcm;
static mbx_audio_queue *audio;

static uint32_t address_of(const void *data)
{
    return (uint32_t)(uintptr_t)data;
}

void mbx_board_audio_start(mbx_audio_queue *queue)
{
    audio = queue;
    filling = 0;
    mbx_pcm_init(&pcm, MBX_MICROPHONE_GAIN_Q4);
#ifdef MBX_PIN_MICROPHONE_POWER
    configure_output(MBX_PIN_MICROPHONE_POWER);
    GPIO_OUTSET(MBX_PIN_MICROPHONE_POWER) = GPIO_BIT(MBX_PIN_MICROPHONE_POWER);
#endif
    GPIO_OUTCLR(MBX_PIN_PDM_CLK) = GPIO_BIT(MBX_PIN_PDM_CLK); /* section 6.15.6, Pin configuration */
    configure_output(MBX_PIN_PDM_CLK);
    GPIO_PIN_CNF(MBX_PIN_PDM_DIN) = GPIO_PIN_CNF_INPUT;
    PDM_PSEL_CLK = MBX_PIN_PDM_CLK;
    PDM_PSEL_DIN = MBX_PIN_PDM_DIN;
    PDM_PDMCLKCTRL = PDM_PDMCLKCTRL_1280K;
    PDM_RATIO = PDM_RATIO_80;
#ifdef MBX_MICROPHONE_RIGHT
    PDM_MODE = PDM_MODE_MONO_LEFT_RISING;
#else
    PDM_MODE = PDM_MODE_MONO_LEFT_FALLING;
#endif
    PDM_GAINL = PDM_GAIN_0_DB;
    PDM_GAINR = PDM_GAIN_0_DB;
    next_block = 0;
    PDM_SAMPLE_PTR = address_of(blocks[0]);
    PDM_SAMPLE_MAXCNT = BLOCK_SAMPLES;
    PDM_EVENTS_STARTED = 0;
    PDM_INTENSET = PDM_INT_STARTED;
    mbx_enable_interrupt(PDM_INTERRUPT, MBX_PRIORITY_AUDIO);
    PDM_ENABLE = 1;
    PDM_TASKS_START = 1;
}

/* SAMPLE.PTR is double-buffered (section 6.15.4): at STARTED the chip has taken the block that it fills from now on, and
 * wants to know the one after it; the block before is complete. END says the same a moment earlier, before the chip has
 * taken the next one: Nordic's driver and Arduino's go by STARTED alone, and so does this one. */
void mbx_interrupt_pdm(void)
{
    if (PDM_EVENTS_STARTED == 0u) {
        return;
    }
    PDM_EVENTS_STARTED = 0;
    const uint32_t complete = next_block ^ 1u;
    PDM_SAMPLE_PTR = address_of(blocks[complete]);
    if (filling) { /* what is handed over here is filled again only after the block that began now: 10 ms */
        mbx_pcm_condition(&pcm, blocks[complete], BLOCK_SAMPLES);
        (void)mbx_audio_queue_push(audio, blocks[complete], BLOCK_SAMPLES);
        mbx_light_pass(BLOCK_SAMPLES);
    }
    filling = 1;
    next_block = complete;
}
