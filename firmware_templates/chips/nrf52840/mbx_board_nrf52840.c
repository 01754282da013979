/* Clock, light, serial port and microphone of a board with an nRF52840. Pins and gain: the board's mbx_pins.h. */
#include "mbx_board.h"
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

static void init_clock(void)
{
    NVMC_ICACHECNF = NVMC_ICACHECNF_CACHEEN;
    CLOCK_EVENTS_HFCLKSTARTED = 0;
    CLOCK_TASKS_HFCLKSTART = 1; /* the crystal: the sample rate and the baud rate derive from it */
    while (CLOCK_EVENTS_HFCLKSTARTED == 0u) {
    }
}

void mbx_board_light(int on)
{
    if ((on != 0) == (MBX_PIN_LIGHT_ON_LEVEL != 0)) {
        GPIO_OUTSET(MBX_PIN_LIGHT) = GPIO_BIT(MBX_PIN_LIGHT);
    } else {
        GPIO_OUTCLR(MBX_PIN_LIGHT) = GPIO_BIT(MBX_PIN_LIGHT);
    }
}

/* --- serial port --- */

static volatile int sending;

static void init_uart(void)
{
    GPIO_OUTSET(MBX_PIN_UART_TX) = GPIO_BIT(MBX_PIN_UART_TX); /* idle is high */
    configure_output(MBX_PIN_UART_TX);
    GPIO_PIN_CNF(MBX_PIN_UART_RX) = GPIO_PIN_CNF_INPUT_PULLUP;
    UART_PSEL_TXD = MBX_PIN_UART_TX;
    UART_PSEL_RXD = MBX_PIN_UART_RX;
    UART_PSEL_RTS = UART_PSEL_DISCONNECTED;
    UART_PSEL_CTS = UART_PSEL_DISCONNECTED;
    UART_BAUDRATE = UART_BAUDRATE_921600;
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
    init_clock();
    mbx_board_light(0);
    configure_output(MBX_PIN_LIGHT);
    init_uart();
}

/* --- microphone --- */

static int16_t blocks[2][BLOCK_SAMPLES];
static uint32_t next_block; /* that the PDM takes when the one it fills is full */
static mbx_double_buffer hand_over;
static mbx_pcm pcm;
static mbx_audio_queue *audio;

static uint32_t address_of(const void *data)
{
    return (uint32_t)(uintptr_t)data;
}

void mbx_board_audio_start(mbx_audio_queue *queue)
{
    audio = queue;
    mbx_double_buffer_init(&hand_over);
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
    PDM_MODE = PDM_MODE_MONO_LEFT_FALLING;
    PDM_GAINL = PDM_GAIN_0_DB;
    PDM_GAINR = PDM_GAIN_0_DB;
    next_block = 0;
    PDM_SAMPLE_PTR = address_of(blocks[0]);
    PDM_SAMPLE_MAXCNT = BLOCK_SAMPLES;
    PDM_EVENTS_STARTED = 0;
    PDM_EVENTS_END = 0;
    PDM_INTENSET = PDM_INT_STARTED | PDM_INT_END;
    mbx_enable_interrupt(PDM_INTERRUPT, MBX_PRIORITY_AUDIO);
    PDM_ENABLE = 1;
    PDM_TASKS_START = 1;
}

/* SAMPLE.PTR is double-buffered (section 6.15.4): at STARTED it may take the block after the one being filled. At the end
 * of a block END and the next STARTED come together. */
void mbx_interrupt_pdm(void)
{
    if (PDM_EVENTS_STARTED != 0u) {
        PDM_EVENTS_STARTED = 0;
        next_block ^= 1u;
        PDM_SAMPLE_PTR = address_of(blocks[next_block]);
    }
    if (PDM_EVENTS_END != 0u) {
        PDM_EVENTS_END = 0;
        const uint32_t complete = mbx_double_buffer_take(&hand_over, next_block ^ 1u);
        mbx_pcm_condition(&pcm, blocks[complete], BLOCK_SAMPLES);
        (void)mbx_audio_queue_push(audio, blocks[complete], BLOCK_SAMPLES);
    }
}
