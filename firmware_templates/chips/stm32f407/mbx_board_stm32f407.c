/* Clock, light, serial port and microphone of a board with an STM32F407 and a crystal of 8 MHz. Pins and gain: the board's
 * mbx_pins.h. */
#include "mbx_board.h"
#include "mbx_light.h"
#include "mbx_pdm.h"
#include "mbx_pins.h"
#include "mbx_serial.h"
#include "mbx_stm32f407.h"

#define APB1_CLOCK_HZ 42000000u
#define BLOCK_SAMPLES 160u /* 10 ms */
#define BLOCK_WORDS (BLOCK_SAMPLES * MBX_PDM_WORDS_PER_SAMPLE)

void mbx_interrupt_uart(void);
void mbx_interrupt_dma(void);

static void set_field(volatile uint32_t *where, uint32_t width, uint32_t place, uint32_t value)
{
    const uint32_t mask = (1u << width) - 1u;
    *where = (*where & ~(mask << (width * place))) | (value << (width * place));
}

static void configure_pin(uint32_t pin, uint32_t mode, uint32_t function)
{
    set_field(&GPIO_AFR(pin), 4u, GPIO_NUMBER(pin) & 7u, function);
    set_field(&GPIO_OSPEEDR(pin), 2u, GPIO_NUMBER(pin), GPIO_SPEED_HIGH);
    set_field(&GPIO_MODER(pin), 2u, GPIO_NUMBER(pin), mode);
}

void mbx_board_light(int on)
{
    GPIO_BSRR(MBX_PIN_LIGHT) = 1u << (GPIO_NUMBER(MBX_PIN_LIGHT) + (on ? 0u : 16u));
}

/* The prefetch of revision A returns wrong instructions: errata sheet ES0182. */
static uint32_t flash_access(void)
{
    const int prefetch = DBGMCU_IDCODE_REVISION(DBGMCU_IDCODE) != DBGMCU_IDCODE_REVISION_A;
    return FLASH_ACR_CACHES_5_WAIT_STATES | (prefetch ? FLASH_ACR_PRFTEN : 0u);
}

/* 8 MHz / 8 * 336 / 2 = 168 MHz for the core; / 4 on APB1, / 2 on APB2. 8 MHz / 8 * 256 / 5 = 51.2 MHz for I2S. */
void mbx_board_clock(void)
{
    RCC_AHB1ENR |= RCC_AHB1ENR_GPIOA_TO_D | RCC_AHB1ENR_DMA1;
    RCC_APB1ENR |= RCC_APB1ENR_PWR | RCC_APB1ENR_USART2 | RCC_APB1ENR_SPI2;
    (void)RCC_APB1ENR; /* the clock takes two cycles to arrive: errata sheet ES0182 */
    mbx_board_light(0);
    configure_pin(MBX_PIN_LIGHT, GPIO_MODE_OUTPUT, 0u);
    PWR_CR |= PWR_CR_VOS;
    RCC_CR |= RCC_CR_HSEON;
    MBX_WAIT_FOR((RCC_CR & RCC_CR_HSERDY) != 0u);
    RCC_PLLCFGR = RCC_PLLCFGR_HSE | RCC_PLLCFGR_M_N_Q(8u, 336u, 7u);
    RCC_PLLI2SCFGR = RCC_PLLI2SCFGR_N_R(256u, 5u);
    RCC_CR |= RCC_CR_PLLON | RCC_CR_PLLI2SON;
    MBX_WAIT_FOR((RCC_CR & (RCC_CR_PLLRDY | RCC_CR_PLLI2SRDY)) == (RCC_CR_PLLRDY | RCC_CR_PLLI2SRDY));
    FLASH_ACR = flash_access();
    RCC_CFGR = RCC_CFGR_PPRE1_BY_4 | RCC_CFGR_PPRE2_BY_2;
    RCC_CFGR = RCC_CFGR_PPRE1_BY_4 | RCC_CFGR_PPRE2_BY_2 | RCC_CFGR_SW_PLL;
    MBX_WAIT_FOR((RCC_CFGR & RCC_CFGR_SWS_MASK) == RCC_CFGR_SWS_PLL);
}

/* --- serial port --- */

static void init_uart(void)
{
    set_field(&GPIO_PUPDR(MBX_PIN_UART_RX), 2u, GPIO_NUMBER(MBX_PIN_UART_RX), GPIO_PULL_UP);
    configure_pin(MBX_PIN_UART_TX, GPIO_MODE_ALTERNATE, MBX_UART_ALTERNATE);
    configure_pin(MBX_PIN_UART_RX, GPIO_MODE_ALTERNATE, MBX_UART_ALTERNATE);
    USART2_BRR = (APB1_CLOCK_HZ + MBX_UART_BAUD / 2u) / MBX_UART_BAUD;
    USART2_CR1 = USART_CR1_UE_TE_RE_RXNEIE;
    mbx_enable_interrupt(USART2_INTERRUPT, MBX_PRIORITY_SERIAL);
}

void mbx_serial_kick(void)
{
    USART2_CR1 = USART_CR1_UE_TE_RE_RXNEIE | USART_CR1_TXEIE; /* the interrupt comes at once where the port is idle */
}

void mbx_interrupt_uart(void)
{
    const uint32_t status = USART2_SR;
    if ((status & (USART_SR_RXNE | USART_SR_ORE)) != 0u) {
        const uint8_t byte = (uint8_t)USART2_DR; /* reading SR, then DR, clears both */
        if ((status & USART_SR_RXNE) != 0u) {
            mbx_serial_received(byte);
        }
    }
    if ((status & USART_SR_TXE) != 0u) {
        const int byte = mbx_byte_ring_get(&mbx_serial_tx);
        if (byte >= 0) {
            USART2_DR = (uint32_t)byte;
        } else {
            USART2_CR1 = USART_CR1_UE_TE_RE_RXNEIE;
        }
    }
}

void mbx_board_init(void)
{
    init_uart();
}

/* --- microphone --- */

static uint16_t blocks[2][BLOCK_WORDS];
static int16_t samples[BLOCK_SAMPLES];
static mbx_double_buffer hand_over;
static mbx_pdm pdm;
static mbx_audio_queue *audio;

/* The microphone's bits come as two channels of 16 bits at 64 kHz: 2.048 MHz. 51.2 MHz / (2 * 12 + 1) = 2.048 MHz. */
void mbx_board_audio_start(mbx_audio_queue *queue)
{
    audio = queue;
    mbx_double_buffer_init(&hand_over);
    mbx_pdm_init(&pdm, MBX_MICROPHONE_GAIN_Q4);
    configure_pin(MBX_PIN_PDM_CLK, GPIO_MODE_ALTERNATE, MBX_PDM_ALTERNATE);
    configure_pin(MBX_PIN_PDM_DIN, GPIO_MODE_ALTERNATE, MBX_PDM_ALTERNATE);
    DMA1_LIFCR = DMA_LIFCR_STREAM_3;
    DMA1_S3PAR = SPI2_DR;
    DMA1_S3M0AR = (uint32_t)(uintptr_t)blocks[0];
    DMA1_S3M1AR = (uint32_t)(uintptr_t)blocks[1];
    DMA1_S3NDTR = BLOCK_WORDS;
    DMA1_S3CR = DMA_SCR_DBM | DMA_SCR_PRIORITY_HIGH | DMA_SCR_HALFWORDS | DMA_SCR_MINC | DMA_SCR_CIRC | DMA_SCR_TCIE;
    mbx_enable_interrupt(DMA1_STREAM3_INTERRUPT, MBX_PRIORITY_AUDIO);
    DMA1_S3CR |= DMA_SCR_EN;
    SPI2_I2SPR = 12u | SPI_I2SPR_ODD; /* I2SDIV; MCKOE 0 */
    SPI2_CR2 = SPI_CR2_RXDMAEN;
    SPI2_I2SCFGR = SPI_I2SCFGR_I2SMOD | SPI_I2SCFGR_MASTER_RECEIVE | SPI_I2SCFGR_MSB_JUSTIFIED | SPI_I2SCFGR_CKPOL;
    SPI2_I2SCFGR |= SPI_I2SCFGR_I2SE;
}

void mbx_interrupt_dma(void)
{
    DMA1_LIFCR = DMA_LIFCR_STREAM_3;
    const uint32_t complete = mbx_double_buffer_take(&hand_over, (DMA1_S3CR & DMA_SCR_CT) != 0u, audio, BLOCK_SAMPLES);
    mbx_pdm_decimate(&pdm, blocks[complete], samples, BLOCK_SAMPLES);
    (void)mbx_audio_queue_push(audio, samples, BLOCK_SAMPLES);
    mbx_light_pass(BLOCK_SAMPLES);
}
