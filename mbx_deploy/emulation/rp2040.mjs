// A firmware for the RP2040 in rp2040js, from its UF2 file and the microphone's bits to its serial port.
// usage: node rp2040.mjs '{"image": ..., "module": ..., "samples": ..., "out": ..., ...}' (rp2040.py writes it)
//
// Modelled, by rp2040js: the Cortex-M0+ with its cycles, PIO, DMA, UART, clocks as far as they are looked at. Ours: what the
// boot ROM does with the second stage (datasheet 2.8.1: 256 bytes to RAM, their CRC), pads that reset to 0x56 (2.19.6.3),
// PIO stepped with the CPU by its divider (3.5.5), the cache of the flash (2.6.3: 16 KB, two ways, lines of eight bytes) and
// what a missed line costs, a PDM microphone on its clock's edges with a second-order modulator.
// Not modelled: the second core, contention of the buses and of the SRAM's banks, start-up times of clocks, USB, the
// flash interface's registers, analogue things.
import fs from 'fs';

const options = JSON.parse(process.argv[2]);
const { RP2040 } = await import(options.module);
const FLASH = 0x10000000, BOOT2 = 0x20041f00;
const [CLOCK_PIN, DATA_PIN, LIGHT_PIN] = options.pins;
const told = { seconds: 0, idle_share: 0, decisions: [], lights: [], sent: [], faults: [] };

const mcu = new RP2040();
const fault = (name, message) => { if (told.faults.length < 8) told.faults.push(`${name}: ${message}`); };
mcu.logger = { debug() {}, info() {}, warn() {}, error: fault };

// --- UF2, and what the boot ROM does with it ---

const file = fs.readFileSync(options.image);
for (let at = 0; at < file.length; at += 512) {
  const address = file.readUInt32LE(at + 12), size = file.readUInt32LE(at + 16);
  mcu.flash.set(file.subarray(at + 32, at + 32 + size), address - FLASH);
}
let crc = 0xffffffff;
for (let i = 0; i < 252; i++) {
  crc ^= mcu.flash[i] << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
}
if (crc >>> 0 !== mcu.flashView.getUint32(252, true)) fault('boot ROM', 'the checksum of the second stage is wrong');
mcu.sram.set(mcu.flash.subarray(0, 256), BOOT2 - 0x20000000);
for (const pin of mcu.gpio) pin.padValue = 0x56;
const core = mcu.core;
core.PC = BOOT2;
core.LR = 0;
core.SP = 0x20042000;

// --- the microphone ---

const bytes = fs.readFileSync(options.samples);
const samples = new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
const PER_SAMPLE = 128;
let bits = 0, first = 0, second = 0;
function nextBit() {
  const place = bits / PER_SAMPLE, whole = Math.floor(place), part = place - whole;
  const a = whole < samples.length ? samples[whole] : 0, b = whole + 1 < samples.length ? samples[whole + 1] : 0;
  bits++;
  const out = second >= 0 ? 1 : -1;
  first += (a + (b - a) * part) / 32768 - out;
  second += first - 2 * out;
  return out > 0;
}
// L/R to ground: data while the clock is low, released while it is high.
mcu.gpio[CLOCK_PIN].addListener((level) => mcu.gpio[DATA_PIN].setInputValue(level === 0 ? nextBit() : false));

// --- what is told ---

let now = 0; // cycles of the system clock, as if it ran at clock_hz from the start
const time = () => now / options.clock_hz;
let lit = 0;
mcu.gpio[LIGHT_PIN].addListener((level) => {
  const on = level === 1 ? 1 : 0;
  if (on !== lit) told.lights.push([time(), on]);
  lit = on;
});
mcu.uart[0].onByte = (byte) => told.sent.push([time(), byte]);

// --- the cache of the flash ---

const tags = new Int32Array(2048).fill(-1), oldest = new Uint8Array(1024);
let stall = 0;
function touch(address) {
  const line = (address & 0xffffff) >> 3, set = line & 1023, tag = line >> 10;
  if (tags[2 * set] === tag) oldest[set] = 1;
  else if (tags[2 * set + 1] === tag) oldest[set] = 0;
  else {
    tags[2 * set + oldest[set]] = tag;
    oldest[set] = 1 - oldest[set];
    stall += options.miss_cycles;
  }
}
for (const name of ['readUint32', 'readUint16', 'readUint8']) {
  const plain = mcu[name].bind(mcu);
  mcu[name] = (address) => {
    if (address >>> 24 === 0x10) touch(address);
    return plain(address);
  };
}

// --- the run ---

const pio = mcu.pio[0], machine = pio.machines[0];
let started = null, nextStep = 0, idle = 0;
pio.run = () => { started = now; machine.cycles = 0; };
const end = options.seconds * options.clock_hz, nanoseconds = 1e9 / options.clock_hz;
while (now < end && told.faults.length === 0) {
  let cycles;
  if (core.waiting) {
    cycles = started === null ? 128 : Math.max(1, Math.ceil(nextStep - now));
    if (started !== null) idle += cycles;
  } else {
    const place = core.PC & ~1;
    if (place === options.decision) told.decisions.push(time());
    cycles = core.executeInstruction() + stall;
    stall = 0;
  }
  now += cycles;
  mcu.clock.tick(cycles * nanoseconds);
  if (started !== null) {
    const divider = machine.clockDivInt + machine.clockDivFrac / 256;
    while ((nextStep = started + machine.cycles * divider) <= now) {
      machine.step();
      pio.checkChangedPins();
      mcu.clock.tick(0);
    }
  }
}
told.seconds = time();
told.idle_share = started === null ? 0 : idle / (now - started);
fs.writeFileSync(options.out, JSON.stringify(told));
