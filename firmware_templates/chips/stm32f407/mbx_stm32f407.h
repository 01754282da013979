/* Registers of the STM32F407 that the boards use. Source: RM0090 Rev 21, the STM32F4's reference manual; the section of
 * each peripheral and the page of each register are named with them. Base addresses: section 2.3, Memory map, pages 64 to
 * 67. */
#ifndef MBX_STM32F407_H
#define MBX_STM32F407_H

#include "mbx_cortexm.h"

/* Section 7.3, RCC */
#define RCC_CR MBX_REGISTER(0x40023800u) /* p. 226 */
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_CR_PLLI2SON (1u << 26)
#define RCC_CR_PLLI2SRDY (1u << 27)
#define RCC_PLLCFGR MBX_REGISTER(0x40023804u) /* p. 228 */
#define RCC_PLLCFGR_HSE (1u << 22)
#define RCC_PLLCFGR_M_N_Q(m, n, q) ((m) | ((n) << 6) | ((q) << 24)) /* PLLP: / 2 where its bits are 0 */
#define RCC_CFGR MBX_REGISTER(0x40023808u) /* p. 230 */
#define RCC_CFGR_SW_MASK 0x3u
#define RCC_CFGR_SW_PLL 0x2u
#define RCC_CFGR_SWS_MASK 0xCu
#define RCC_CFGR_SWS_PLL 0x8u
#define RCC_CFGR_PPRE1_BY_4 (5u << 10)
#define RCC_CFGR_PPRE2_BY_2 (4u << 13)
#define RCC_AHB1ENR MBX_REGISTER(0x40023830u) /* p. 244 */
#define RCC_AHB1ENR_GPIOA_TO_D 0xFu
#define RCC_AHB1ENR_DMA1 (1u << 21)
#define RCC_APB1ENR MBX_REGISTER(0x40023840u) /* p. 247 */
#define RCC_APB1ENR_SPI2 (1u << 14)
#define RCC_APB1ENR_USART2 (1u << 17)
#define RCC_APB1ENR_PWR (1u << 28)
#define RCC_PLLI2SCFGR MBX_REGISTER(0x40023884u) /* p. 265 */
#define RCC_PLLI2SCFGR_N_R(n, r) (((n) << 6) | ((r) << 28))

/* Section 5.4, PWR */
#define PWR_CR MBX_REGISTER(0x40007000u) /* p. 142 */
#define PWR_CR_VOS (1u << 14) /* scale 1, for more than 144 MHz */

/* Section 3.9, Flash interface */
#define FLASH_ACR MBX_REGISTER(0x40023C00u) /* p. 99 */
#define FLASH_ACR_CACHES_5_WAIT_STATES 0x605u /* DCEN, ICEN, LATENCY 5: 150 to 168 MHz at 2.7 to 3.6 V (table 11, p. 81) */
#define FLASH_ACR_PRFTEN (1u << 8)

/* Section 38.6.1, MCU device ID code */
#define DBGMCU_IDCODE MBX_REGISTER(0xE0042000u)
#define DBGMCU_IDCODE_REVISION(idcode) ((idcode) >> 16)
#define DBGMCU_IDCODE_REVISION_A 0x1000u

/* Section 8.4, GPIO. A pin is 16 * port + number, port A being 0. */
#define GPIO_PORT(pin) (0x40020000u + 0x400u * ((pin) >> 4))
#define GPIO_NUMBER(pin) ((pin)&15u)
#define GPIO_MODER(pin) MBX_REGISTER(GPIO_PORT(pin)) /* p. 284 */
#define GPIO_MODE_OUTPUT 1u
#define GPIO_MODE_ALTERNATE 2u
#define GPIO_OSPEEDR(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x08u) /* p. 285 */
#define GPIO_SPEED_HIGH 2u
#define GPIO_PUPDR(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x0Cu) /* p. 285 */
#define GPIO_PULL_UP 1u
#define GPIO_BSRR(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x18u) /* p. 287 */
#define GPIO_AFR(pin) MBX_REGISTER(GPIO_PORT(pin) + 0x20u + 4u * (GPIO_NUMBER(pin) >> 3)) /* p. 288, 289 */

/* Section 30.6, USART; its register map: p. 1021 */
#define USART2_SR MBX_REGISTER(0x40004400u)
#define USART_SR_ORE (1u << 3)
#define USART_SR_RXNE (1u << 5)
#define USART_SR_TXE (1u << 7)
#define USART2_DR MBX_REGISTER(0x40004404u)
#define USART2_BRR MBX_REGISTER(0x40004408u)
#define USART2_CR1 MBX_REGISTER(0x4000440Cu)
#define USART_CR1_UE_TE_RE_RXNEIE 0x202Cu
#define USART_CR1_TXEIE (1u << 7)
#define USART2_INTERRUPT 38u /* section 12.2, table 62, p. 376, as the one below */

/* Section 28.5, SPI and I2S */
#define SPI2_CR2 MBX_REGISTER(0x40003804u) /* p. 921 */
#define SPI_CR2_RXDMAEN (1u << 0)
#define SPI2_DR 0x4000380Cu /* p. 923 */
#define SPI2_I2SCFGR MBX_REGISTER(0x4000381Cu) /* p. 925 */
#define SPI_I2SCFGR_I2SMOD (1u << 11)
#define SPI_I2SCFGR_I2SE (1u << 10)
#define SPI_I2SCFGR_MASTER_RECEIVE (3u << 8)
#define SPI_I2SCFGR_MSB_JUSTIFIED (1u << 4)
#define SPI_I2SCFGR_CKPOL (1u << 3)
#define SPI2_I2SPR MBX_REGISTER(0x40003820u) /* p. 927 */
#define SPI_I2SPR_ODD (1u << 8)

/* Section 10.5, DMA. Stream 3 of DMA1, channel 0, is SPI2_RX (section 10.3.3, table 43, p. 310). */
#define DMA1_LIFCR MBX_REGISTER(0x40026008u) /* p. 330 */
#define DMA_LIFCR_STREAM_3 0x0F400000u
#define DMA1_S3CR MBX_REGISTER(0x40026058u) /* p. 331 */
#define DMA_SCR_EN (1u << 0)
#define DMA_SCR_TCIE (1u << 4)
#define DMA_SCR_CIRC (1u << 8)
#define DMA_SCR_MINC (1u << 10)
#define DMA_SCR_HALFWORDS ((1u << 11) | (1u << 13))
#define DMA_SCR_PRIORITY_HIGH (2u << 16)
#define DMA_SCR_DBM (1u << 18)
#define DMA_SCR_CT (1u << 19) /* the memory that is being filled */
#define DMA1_S3NDTR MBX_REGISTER(0x4002605Cu) /* p. 334 */
#define DMA1_S3PAR MBX_REGISTER(0x40026060u) /* p. 335 */
#define DMA1_S3M0AR MBX_REGISTER(0x40026064u) /* p. 335 */
#define DMA1_S3M1AR MBX_REGISTER(0x40026068u) /* p. 335 */
#define DMA1_STREAM3_INTERRUPT 14u

#endif
