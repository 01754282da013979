"""The numpy simulator: the readable definition of what the firmware computes, bit for bit.

Each module is the twin of a C file in firmware_templates/runtime: the same functions by the same names in the same
order.
"""
