"""A device on a serial port: frames, messages, the port itself, items run on it, and what it hears shown live."""
