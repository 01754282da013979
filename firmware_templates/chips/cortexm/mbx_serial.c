#include "mbx_serial.h"

#include "mbx_board.h"
#include "mbx_cortexm.h"

static uint8_t tx_bytes[MBX_SERIAL_TX_BYTES];
static uint8_t rx_bytes[MBX_SERIAL_RX_BYTES];

mbx_byte_ring mbx_serial_tx = {tx_bytes, MBX_SERIAL_TX_BYTES, 0, 0};
mbx_byte_ring mbx_serial_rx = {rx_bytes, MBX_SERIAL_RX_BYTES, 0, 0};
volatile uint32_t mbx_serial_lost_bytes;

uint32_t mbx_board_uart_write(const uint8_t *data, uint32_t size)
{
    uint32_t taken = 0;
    while (taken < size && mbx_byte_ring_put(&mbx_serial_tx, data[taken])) {
        taken++;
    }
    mbx_mask_interrupts();
    mbx_serial_kick();
    mbx_unmask_interrupts();
    return taken;
}

uint32_t mbx_board_uart_read(uint8_t *data, uint32_t size)
{
    uint32_t copied = 0;
    for (; copied < size; copied++) {
        const int byte = mbx_byte_ring_get(&mbx_serial_rx);
        if (byte < 0) {
            break;
        }
        data[copied] = (uint8_t)byte;
    }
    return copied;
}

void mbx_serial_received(uint8_t byte)
{
    if (!mbx_byte_ring_put(&mbx_serial_rx, byte)) {
        mbx_serial_lost_bytes++;
    }
}
