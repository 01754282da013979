"""What a build costs: instructions counted in the emulator, bytes read from the ELF."""
