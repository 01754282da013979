"""A board's own image in an emulator of its chip: from the microphone's bits to the bytes of the serial port.

The models of peripherals are ours, written from the manuals; each says what it does not model.
"""
