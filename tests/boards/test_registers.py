"""The boards' headers against what the chips' vendors publish: every register's address, every field, the interrupts.

The tables below are facts, each taken from the vendor's own machine-readable description, not from our headers:
Nordic's nrf52840.svd and nrf52840_bitfields.h (nrfx), ST's stm32f407xx.h (cmsis_device_f4) and STM32F407.svd,
Raspberry Pi's RP2040.svd (pico-sdk). A register is the base of its block and its offset there; a field is the value
that its enumeration or its place in the register gives. Pins: ArduinoCore-mbed's variant ARDUINO_NANO33BLE, Zephyr's
nrf52840dk and stm32f4_disco, ST's board support of the STM32F4-Discovery, and pico-sdk's boards/pico.h.
"""

import re
import subprocess
from pathlib import Path

import pytest

from mbx_deploy.codegen.target import list_targets
from mbx_deploy.system.resources import part_folders
from mbx_deploy.system.tools import find_tool

pytestmark = pytest.mark.skipif(find_tool("gcc") is None, reason="gcc is not installed")
FOLDERS = part_folders()

# {block: (base, {register, as our header names it with its argument: offset})}
NRF52840_REGISTERS = {
    "CLOCK": (0x40000000, {"CLOCK_TASKS_HFCLKSTART": 0x000, "CLOCK_EVENTS_HFCLKSTARTED": 0x100}),
    "FICR": (0x10000000, {"FICR_CHIP": 0x130, "FICR_REVISION": 0x134}),
    "UICR": (0x10001000, {"UICR_APPROTECT": 0x208}),
    "APPROTECT": (0x40000000, {"APPROTECT_DISABLE": 0x558}),
    "UART0": (
        0x40002000,
        {
            "UART_TASKS_STARTRX": 0x000,
            "UART_TASKS_STARTTX": 0x008,
            "UART_TASKS_STOPRX": 0x004,
            "UART_TASKS_STOPTX": 0x00C,
            "UART_EVENTS_RXDRDY": 0x108,
            "UART_EVENTS_TXDRDY": 0x11C,
            "UART_EVENTS_ERROR": 0x124,
            "UART_EVENTS_RXTO": 0x144,
            "UARTE_EVENTS_TXSTOPPED": 0x158,
            "UART_INTENCLR": 0x308,
            "UART_INTENSET": 0x304,
            "UART_ERRORSRC": 0x480,
            "UART_ENABLE": 0x500,
            "UART_PSEL_RTS": 0x508,
            "UART_PSEL_TXD": 0x50C,
            "UART_PSEL_CTS": 0x510,
            "UART_PSEL_RXD": 0x514,
            "UART_RXD": 0x518,
            "UART_TXD": 0x51C,
            "UART_BAUDRATE": 0x524,
            "UART_CONFIG": 0x56C,
        },
    ),
    "PDM": (
        0x4001D000,
        {
            "PDM_TASKS_START": 0x000,
            "PDM_EVENTS_STARTED": 0x100,
            "PDM_INTENSET": 0x304,
            "PDM_ENABLE": 0x500,
            "PDM_PDMCLKCTRL": 0x504,
            "PDM_MODE": 0x508,
            "PDM_GAINL": 0x518,
            "PDM_GAINR": 0x51C,
            "PDM_RATIO": 0x520,
            "PDM_PSEL_CLK": 0x540,
            "PDM_PSEL_DIN": 0x544,
            "PDM_SAMPLE_PTR": 0x560,
            "PDM_SAMPLE_MAXCNT": 0x564,
        },
    ),
    "NVMC": (0x4001E000, {"NVMC_ICACHECNF": 0x540}),
    "P0": (
        0x50000000,
        {
            "GPIO_OUTSET(13u)": 0x508,
            "GPIO_OUTCLR(13u)": 0x50C,
            "GPIO_DIRSET(13u)": 0x518,
            "GPIO_DIRCLR(13u)": 0x51C,
            "GPIO_PIN_CNF(0u)": 0x700,
            "GPIO_PIN_CNF(31u)": 0x77C,
        },
    ),
    "P1": (0x50000300, {"GPIO_OUTSET(35u)": 0x508, "GPIO_PIN_CNF(32u)": 0x700, "GPIO_PIN_CNF(47u)": 0x73C}),
}
NRF52840_FIELDS = {
    "NVMC_ICACHECNF_CACHEEN": 1 << 0,
    "GPIO_BIT(35u)": 1 << 3,
    "GPIO_PIN_CNF_INPUT": 0 << 0 | 0 << 1,  # DIR Input, INPUT Connect
    "GPIO_PIN_CNF_INPUT_PULLUP": 0 << 0 | 0 << 1 | 3 << 2,  # PULL Pullup
    "GPIO_PIN_CNF_OUTPUT": 1 << 0 | 1 << 1,  # DIR Output, INPUT Disconnect
    "PDM_INT_STARTED": 1 << 0,
    "PDM_PDMCLKCTRL_1280K": 0x0A000000,
    "PDM_MODE_MONO_LEFT_FALLING": 1 << 0 | 0 << 1,  # OPERATION Mono, EDGE LeftFalling
    "PDM_MODE_MONO_LEFT_RISING": 1 << 0 | 1 << 1,  # OPERATION Mono, EDGE LeftRising
    "PDM_GAIN_0_DB": 0x28,
    "PDM_RATIO_80": 1,
    "PDM_INTERRUPT": 29,
    "UART_INT_RXDRDY": 1 << 2,
    "UART_INT_TXDRDY": 1 << 7,
    "UART_INT_ERROR": 1 << 9,
    "UART_ENABLE_ENABLED": 4,
    "UARTE_ENABLE_ENABLED": 8,
    "FICR_CHIP_NRF52840": 8,
    "FICR_REVISION_3": 3,
    "UART_PSEL_DISCONNECTED": 0xFFFFFFFF,
    "UART_BAUDRATE_1M": 0x10000000,
    "UART_CONFIG_8N1": 0,
    "UART_INTERRUPT": 2,
}
STM32F407_REGISTERS = {
    "SPI2": (
        0x40003800,
        {"SPI2_CR2": 0x04, "SPI2_DR": 0x0C, "SPI2_I2SCFGR": 0x1C, "SPI2_I2SPR": 0x20},
    ),
    "USART2": (0x40004400, {"USART2_SR": 0x00, "USART2_DR": 0x04, "USART2_BRR": 0x08, "USART2_CR1": 0x0C}),
    "PWR": (0x40007000, {"PWR_CR": 0x00}),
    "GPIOA": (0x40020000, {"GPIO_AFR(2u)": 0x20, "GPIO_PUPDR(3u)": 0x0C}),
    "GPIOB": (0x40020400, {"GPIO_MODER(26u)": 0x00, "GPIO_AFR(26u)": 0x24}),
    "GPIOC": (0x40020800, {"GPIO_OSPEEDR(35u)": 0x08, "GPIO_AFR(35u)": 0x20}),
    "GPIOD": (0x40020C00, {"GPIO_MODER(60u)": 0x00, "GPIO_BSRR(60u)": 0x18}),
    "RCC": (
        0x40023800,
        {
            "RCC_CR": 0x00,
            "RCC_PLLCFGR": 0x04,
            "RCC_CFGR": 0x08,
            "RCC_AHB1ENR": 0x30,
            "RCC_APB1ENR": 0x40,
            "RCC_PLLI2SCFGR": 0x84,
        },
    ),
    "FLASH": (0x40023C00, {"FLASH_ACR": 0x00}),
    "DBGMCU": (0xE0042000, {"DBGMCU_IDCODE": 0x00}),
    "DMA1": (0x40026000, {"DMA1_LIFCR": 0x08}),
    "DMA1_Stream3": (
        0x40026058,
        {
            "DMA1_S3CR": 0x00,
            "DMA1_S3NDTR": 0x04,
            "DMA1_S3PAR": 0x08,
            "DMA1_S3M0AR": 0x0C,
            "DMA1_S3M1AR": 0x10,
        },
    ),
}
STM32F407_FIELDS = {
    "RCC_CR_HSEON": 1 << 16,
    "RCC_CR_HSERDY": 1 << 17,
    "RCC_CR_PLLON": 1 << 24,
    "RCC_CR_PLLRDY": 1 << 25,
    "RCC_CR_PLLI2SON": 1 << 26,
    "RCC_CR_PLLI2SRDY": 1 << 27,
    "RCC_PLLCFGR_HSE": 1 << 22,
    "RCC_PLLCFGR_M_N_Q(63u,511u,15u)": 0x3F << 0 | 0x1FF << 6 | 0xF << 24,
    "RCC_CFGR_SW_MASK": 3 << 0,
    "RCC_CFGR_SW_PLL": 2 << 0,
    "RCC_CFGR_SWS_MASK": 3 << 2,
    "RCC_CFGR_SWS_PLL": 2 << 2,
    "RCC_CFGR_PPRE1_BY_4": 5 << 10,
    "RCC_CFGR_PPRE2_BY_2": 4 << 13,
    "RCC_AHB1ENR_GPIOA_TO_D": 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3,
    "RCC_AHB1ENR_DMA1": 1 << 21,
    "RCC_APB1ENR_SPI2": 1 << 14,
    "RCC_APB1ENR_USART2": 1 << 17,
    "RCC_APB1ENR_PWR": 1 << 28,
    "RCC_PLLI2SCFGR_N_R(511u,7u)": 0x1FF << 6 | 7 << 28,
    "PWR_CR_VOS": 1 << 14,
    "FLASH_ACR_CACHES_5_WAIT_STATES": 5 << 0 | 1 << 9 | 1 << 10,  # LATENCY, ICEN, DCEN
    "FLASH_ACR_PRFTEN": 1 << 8,
    "DBGMCU_IDCODE_REVISION(0x10076413u)": 0x1007,  # REV_ID
    "DBGMCU_IDCODE_REVISION_A": 0x1000,
    "SPI_I2SPR_ODD": 1 << 8,
    "GPIO_NUMBER(60u)": 12,
    "GPIO_MODE_OUTPUT": 1,
    "GPIO_MODE_ALTERNATE": 2,
    "GPIO_SPEED_HIGH": 2,
    "GPIO_PULL_UP": 1,
    "USART_SR_ORE": 1 << 3,
    "USART_SR_RXNE": 1 << 5,
    "USART_SR_TXE": 1 << 7,
    "USART_CR1_UE_TE_RE_RXNEIE": 1 << 13 | 1 << 3 | 1 << 2 | 1 << 5,
    "USART_CR1_TXEIE": 1 << 7,
    "USART2_INTERRUPT": 38,
    "SPI_CR2_RXDMAEN": 1 << 0,
    "SPI_I2SCFGR_I2SMOD": 1 << 11,
    "SPI_I2SCFGR_I2SE": 1 << 10,
    "SPI_I2SCFGR_MASTER_RECEIVE": 3 << 8,
    "SPI_I2SCFGR_MSB_JUSTIFIED": 1 << 4,
    "SPI_I2SCFGR_CKPOL": 1 << 3,
    "DMA_LIFCR_STREAM_3": 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 22,  # CTCIF3, CHTIF3, CTEIF3, CDMEIF3, CFEIF3
    "DMA_SCR_EN": 1 << 0,
    "DMA_SCR_TCIE": 1 << 4,
    "DMA_SCR_CIRC": 1 << 8,
    "DMA_SCR_MINC": 1 << 10,
    "DMA_SCR_HALFWORDS": 1 << 11 | 1 << 13,  # PSIZE, MSIZE
    "DMA_SCR_PRIORITY_HIGH": 2 << 16,
    "DMA_SCR_DBM": 1 << 18,
    "DMA_SCR_CT": 1 << 19,
    "DMA1_STREAM3_INTERRUPT": 14,
}
RP2040_REGISTERS = {
    "CLOCKS": (
        0x40008000,
        {
            "CLOCKS_CLK_REF_CTRL": 0x30,
            "CLOCKS_CLK_REF_SELECTED": 0x38,
            "CLOCKS_CLK_SYS_CTRL": 0x3C,
            "CLOCKS_CLK_SYS_SELECTED": 0x44,
            "CLOCKS_CLK_PERI_CTRL": 0x48,
        },
    ),
    "RESETS": (0x4000C000, {"RESETS_RESET": 0x0, "RESETS_RESET_DONE": 0x8}),
    "IO_BANK0": (0x40014000, {"IO_BANK0_CTRL(0u)": 0x04, "IO_BANK0_CTRL(3u)": 0x1C, "IO_BANK0_CTRL(29u)": 0xEC}),
    "PADS_BANK0": (0x4001C000, {"PADS_BANK0(0u)": 0x04, "PADS_BANK0(1u)": 0x08, "PADS_BANK0(29u)": 0x78}),
    "XOSC": (0x40024000, {"XOSC_CTRL": 0x0, "XOSC_STATUS": 0x4, "XOSC_STARTUP": 0xC}),
    "PLL_SYS": (
        0x40028000,
        {"PLL_SYS_CS": 0x0, "PLL_SYS_PWR": 0x4, "PLL_SYS_FBDIV_INT": 0x8, "PLL_SYS_PRIM": 0xC},
    ),
    "UART0": (
        0x40034000,
        {
            "UART0_DR": 0x00,
            "UART0_FR": 0x18,
            "UART0_IBRD": 0x24,
            "UART0_FBRD": 0x28,
            "UART0_LCR_H": 0x2C,
            "UART0_CR": 0x30,
            "UART0_IMSC": 0x38,
            "UART0_ICR": 0x44,
        },
    ),
    "DMA": (
        0x50000000,
        {
            "DMA_READ_ADDR(0u)": 0x00,
            "DMA_WRITE_ADDR(0u)": 0x04,
            "DMA_TRANS_COUNT(0u)": 0x08,
            "DMA_CTRL_TRIG(0u)": 0x0C,
            "DMA_AL1_CTRL(0u)": 0x10,
            "DMA_READ_ADDR(1u)": 0x40,
            "DMA_WRITE_ADDR(1u)": 0x44,
            "DMA_TRANS_COUNT(1u)": 0x48,
            "DMA_CTRL_TRIG(1u)": 0x4C,
            "DMA_AL1_CTRL(1u)": 0x50,
            "DMA_INTE0": 0x404,
            "DMA_INTS0": 0x40C,
        },
    ),
    "PIO0": (
        0x50200000,
        {
            "PIO0_CTRL": 0x000,
            "PIO0_RXF0": 0x020,
            "PIO0_INSTR_MEM(0u)": 0x048,
            "PIO0_INSTR_MEM(31u)": 0x0C4,
            "PIO0_SM0_CLKDIV": 0x0C8,
            "PIO0_SM0_EXECCTRL": 0x0CC,
            "PIO0_SM0_SHIFTCTRL": 0x0D0,
            "PIO0_SM0_INSTR": 0x0D8,
            "PIO0_SM0_PINCTRL": 0x0DC,
        },
    ),
    "SIO": (0xD0000000, {"SIO_GPIO_OUT_SET": 0x14, "SIO_GPIO_OUT_CLR": 0x18, "SIO_GPIO_OE_SET": 0x24}),
}
RP2040_FIELDS = {
    "RP2040_SET": 0x2000,
    "RP2040_CLEAR": 0x3000,
    "RESETS_DMA": 1 << 2,
    "RESETS_IO_BANK0": 1 << 5,
    "RESETS_PADS_BANK0": 1 << 8,
    "RESETS_PIO0": 1 << 10,
    "RESETS_PLL_SYS": 1 << 12,
    "RESETS_UART0": 1 << 22,
    "XOSC_CTRL_ENABLE_1_15MHZ": 4011 << 12 | 2720,  # ENABLE, FREQ_RANGE
    "XOSC_STATUS_STABLE": 1 << 31,
    "PLL_CS_LOCK": 1 << 31,
    "PLL_PWR_PD": 1 << 0,
    "PLL_PWR_POSTDIVPD": 1 << 3,
    "PLL_PWR_VCOPD": 1 << 5,
    "PLL_PRIM(7u,7u)": 7 << 16 | 7 << 12,
    "CLOCKS_CLK_REF_XOSC": 2,
    "CLOCKS_CLK_SYS_REF": 0,
    "CLOCKS_CLK_SYS_AUX": 1 << 0 | 0 << 5,  # SRC, AUXSRC clksrc_pll_sys
    "CLOCKS_CLK_PERI_ENABLE": 1 << 11 | 0 << 5,  # AUXSRC clk_sys
    "GPIO_FUNCTION_UART": 2,
    "GPIO_FUNCTION_SIO": 5,
    "GPIO_FUNCTION_PIO0": 6,
    "PADS_INPUT_PULLUP": 1 << 6 | 1 << 3 | 1 << 1,  # IE, PUE, SCHMITT
    "UART_FR_RXFE": 1 << 4,
    "UART_FR_TXFF": 1 << 5,
    "UART_LCR_H_8_BITS_FIFO": 3 << 5 | 1 << 4,  # WLEN, FEN
    "UART_CR_ENABLE_RX_TX": 1 << 9 | 1 << 8 | 1 << 0,  # RXE, TXE, UARTEN
    "UART_INT_RX": 1 << 4,
    "UART_INT_TX": 1 << 5,
    "UART_INT_RX_TIMEOUT": 1 << 6,
    "UART0_INTERRUPT": 20,
    "PIO_EXECCTRL_WRAP(31u,31u)": 31 << 12 | 31 << 7,
    "PIO_SHIFTCTRL_FJOIN_RX": 1 << 31,
    "PIO_SHIFTCTRL_PUSH_THRESHOLD(31u)": 31 << 20,
    "PIO_SHIFTCTRL_AUTOPUSH": 1 << 16,
    "DMA_CTRL_EN": 1 << 0,
    "DMA_CTRL_HALFWORDS": 1 << 2,
    "DMA_CTRL_INCR_WRITE": 1 << 5,
    "DMA_CTRL_WRITE_RING(15u)": 15 << 6 | 1 << 10,  # RING_SIZE, RING_SEL
    "DMA_CTRL_CHAIN_TO(15u)": 15 << 11,
    "DMA_CTRL_TREQ_PIO0_RX0": 4 << 15,
    "DMA_CTRL_BUSY": 1 << 24,
    "DMA_INTERRUPT": 11,
}
CHIPS = {
    "nrf52840": (NRF52840_REGISTERS, NRF52840_FIELDS),
    "stm32f407": (STM32F407_REGISTERS, STM32F407_FIELDS),
    "rp2040": (RP2040_REGISTERS, RP2040_FIELDS),
}
# The second stage's, by its .equ: the flash interface, SSI.
RP2040_BOOT2 = {
    "SSI_BASE": 0x18000000,
    "SSI_CTRLR0": 0x00,
    "SSI_CTRLR1": 0x04,
    "SSI_SSIENR": 0x08,
    "SSI_BAUDR": 0x14,
    "SSI_SPI_CTRLR0_OFFSET": 0xF4,
    "VTOR": 0xE000ED08,
    "VECTORS": 0x10000000 + 256,
}
RP2040_BOOT2_WORDS = {
    "ctrlr0": 0 << 21 | 31 << 16 | 3 << 8,  # SPI_FRF STD, DFS_32, TMOD EEPROM_READ
    "spi_ctrlr0": 0x03 << 24 | 0 << 11 | 2 << 8 | 24 // 4 << 2 | 0,  # XIP_CMD, WAIT_CYCLES, INST_L 8B, ADDR_L, 1C1A
}
PORTS = {"GPIO_PORT"}  # what the other macros are made of
PINS = {
    "arduino-nano-33-ble-sense": {
        "MBX_PIN_LIGHT": 13,  # P0_13, D13
        "MBX_PIN_LIGHT_ON_LEVEL": 1,
        "MBX_PIN_UART_TX": 32 + 3,  # P1_3, SERIAL1_TX
        "MBX_PIN_UART_RX": 32 + 10,  # P1_10, SERIAL1_RX
        "MBX_PIN_PDM_CLK": 26,
        "MBX_PIN_PDM_DIN": 25,
        "MBX_PIN_MICROPHONE_POWER": 17,
    },
    "nrf52840-dk": {
        "MBX_PIN_LIGHT": 13,  # gpio0 13, active low
        "MBX_PIN_LIGHT_ON_LEVEL": 0,
        "MBX_PIN_UART_TX": 6,
        "MBX_PIN_UART_RX": 8,
        "MBX_PIN_PDM_CLK": 32 + 3,  # gpio1 3, D2 of the Arduino header
        "MBX_PIN_PDM_DIN": 32 + 4,  # gpio1 4, D3
    },
    "xiao-nrf52840-sense": {
        "MBX_PIN_LIGHT": 30,  # gpio0 30, green, active low
        "MBX_PIN_LIGHT_ON_LEVEL": 0,
        "MBX_PIN_UART_TX": 32 + 11,  # uart0: P1.11
        "MBX_PIN_UART_RX": 32 + 12,
        "MBX_PIN_PDM_CLK": 32 + 0,  # pdm0: P1.00
        "MBX_PIN_PDM_DIN": 16,
        "MBX_PIN_MICROPHONE_POWER": 32 + 10,  # msm261d3526hicpm-c-en
    },
    "stm32f4-discovery": {
        "MBX_PIN_LIGHT": 16 * 3 + 12,  # gpiod 12, LD4
        "MBX_PIN_UART_TX": 2,  # usart2_tx_pa2
        "MBX_PIN_UART_RX": 3,
        "MBX_UART_ALTERNATE": 7,
        "MBX_PIN_PDM_CLK": 16 * 1 + 10,  # I2S2_SCK, GPIOB 10
        "MBX_PIN_PDM_DIN": 16 * 2 + 3,  # I2S2_MOSI, GPIOC 3
        "MBX_PDM_ALTERNATE": 5,  # GPIO_AF5_SPI2
    },
    "arduino-nano-rp2040-connect": {
        "MBX_PIN_LIGHT": 6,  # ArduinoCore-mbed, variant NANO_RP2040_CONNECT: D13
        "MBX_PIN_UART_TX": 0,  # SERIAL1_TX
        "MBX_PIN_UART_RX": 1,
        "MBX_PIN_PDM_CLK": 23,  # PDM_CLOCK
        "MBX_PIN_PDM_DIN": 22,
    },
    "raspberry-pi-pico": {"MBX_PIN_LIGHT": 25, "MBX_PIN_UART_TX": 0, "MBX_PIN_UART_RX": 1},
}
OURS = {  # choices, not facts about a board
    "MBX_MICROPHONE_GAIN_Q4": None,
    "MBX_UART_BAUD": None,
    "MBX_MICROPHONE_RIGHT": None,
}
FREE = {"raspberry-pi-pico": {"MBX_PIN_PDM_CLK", "MBX_PIN_PDM_DIN"}}  # any GPIO; PIO reaches all


def defined(header: Path) -> dict[str, str]:
    """Return {macro: what stands behind it} of a header, its guard left out."""
    text = header.read_text()
    lines = re.findall(r"^#define (\w+)(\([\w, ]*\))?[ \t]+(\S.*)$", text, re.M)
    return {name: body for name, _, body in lines}


def evaluate(header: Path, expressions: list[str], folder: Path) -> dict[str, int]:
    """Return what a C compiler makes of macros: of a register its address, of anything else its value."""
    bodies = defined(header)
    prints = []
    for expression in expressions:
        register = "&" if "MBX_REGISTER" in bodies[expression.partition("(")[0]] else ""
        value = f"(unsigned long)(uint32_t)(uintptr_t)({register}{expression})"
        prints.append(f'    printf("%lu\\n", {value});')
    source = ["#include <stdint.h>", "#include <stdio.h>", f'#include "{header.name}"', "int main(void)", "{", *prints]
    (folder / "values.c").write_text("\n".join([*source, "    return 0;", "}", ""]))
    # A 32-bit address on a 64-bit machine: only warnings, and the addresses are never read.
    flags = ["-w", f"-I{header.parent}", f"-I{FOLDERS['cortexm']}"]
    subprocess.run(["gcc", *flags, "values.c", "-o", "values"], cwd=folder, check=True)
    lines = subprocess.run(["./values"], cwd=folder, check=True, capture_output=True, text=True).stdout.split()
    return dict(zip(expressions, map(int, lines), strict=True))


@pytest.mark.parametrize("chip", list(CHIPS))
def test_registers_and_fields_are_the_vendors(chip: str, tmp_path: Path) -> None:
    registers, fields = CHIPS[chip]
    expected = {
        name: base + offset for base, offsets in registers.values() for name, offset in offsets.items()
    } | fields
    header = FOLDERS[chip] / f"mbx_{chip}.h"
    got = evaluate(header, list(expected), tmp_path)
    assert {name: hex(value) for name, value in got.items()} == {name: hex(value) for name, value in expected.items()}
    named = {expression.partition("(")[0] for expression in expected}
    assert defined(header).keys() - named == PORTS & defined(header).keys()  # nothing in the header is unchecked


def test_the_second_stages_registers() -> None:
    text = (FOLDERS["rp2040"] / "mbx_boot2.S").read_text()
    equal = {name: int(value, 0) for name, value in re.findall(r"\.equ (\w+), (\w+)", text)}
    assert equal == RP2040_BOOT2
    words = dict(re.findall(r"^(\w*ctrlr0):\n    \.word (.*?) +/\*", text, re.M))
    assert words.keys() == RP2040_BOOT2_WORDS.keys()
    for name, expression in words.items():
        assert re.fullmatch(r"[\w() <|]+", expression)
        assert eval(expression) == RP2040_BOOT2_WORDS[name], name


@pytest.mark.parametrize("board", list(PINS))
def test_pins_are_the_boards(board: str, tmp_path: Path) -> None:
    header = FOLDERS[board] / "mbx_pins.h"
    assert evaluate(header, list(PINS[board]), tmp_path) == PINS[board]
    assert defined(header).keys() - PINS[board].keys() <= OURS.keys() | FREE.get(board, set())


def test_baud_rates_are_what_they_are_called() -> None:
    register = NRF52840_FIELDS["UART_BAUDRATE_1M"]
    nrf = 16_000_000 * register / 2**32  # nrf52840_bitfields.h: "1Mega baud", no other actual rate
    stm32 = 42_000_000 / 42
    rp2040 = 128_000_000 / 16 / 8
    assert nrf == stm32 == rp2040 == 1_000_000
    assert {target.uart_baud for target in list_targets() if target.is_board} == {1_000_000}


# RM0090 Rev 21: the first and the last page of each block's registers, its register map included.
STM32F407_PAGES = {
    "RCC": (226, 269),
    "PWR": (142, 145),
    "FLASH": (99, 100),
    "GPIO": (284, 291),
    "SPI2": (919, 928),
    "DMA1": (328, 341),
}


def register_lines(chip: str) -> list[tuple[str, str, str]]:
    """Return (name, its line, the comment that begins its block) of each register of a chip's header."""
    found, heading = [], ""
    names = {name.partition("(")[0] for _, offsets in CHIPS[chip][0].values() for name in offsets}
    for line in (FOLDERS[chip] / f"mbx_{chip}.h").read_text().splitlines():
        if line.startswith("/* Section"):
            heading = line
        match = re.match(r"#define (\w+)", line)
        if match and match[1] in names:
            found.append((match[1], line, heading))
    assert {name for name, _, _ in found} == names
    return found


def test_each_register_names_its_page_of_the_manual() -> None:
    for name, line, heading in register_lines("stm32f407"):
        if name.startswith(("USART2", "DBGMCU")):  # the one or two of a section
            assert "p. 1021 */" in heading or "MCU device ID code */" in heading
            continue
        pages = re.search(r"/\* p\. (\d+)(?:, (\d+))? \*/$", line)
        assert pages, name
        first, last = STM32F407_PAGES[name.partition("_")[0]]
        assert first <= int(pages[1]) <= int(pages[2] or pages[1]) <= last, name
    for chip, place in (("nrf52840", r": (\w+)\.html"), ("rp2040", r": #tab-registerlist_(\w+)")):
        for name, _, heading in register_lines(chip):
            page = re.search(place, heading)
            assert page, (name, heading)
            assert name.lower().replace("padsbank", "pads_bank").startswith(page[1].split("_")[0]), (name, page[1])
