// Any rate -> the model's, in blocks: a windowed sinc (Kaiser, 32 zero crossings a side), one row of taps a phase.
const LEAST_HZ = 4000, MOST_HZ = 768000, ZERO_CROSSINGS = 32, CUT_OFF = 0.95, KAISER_BETA = 10;

class Resampler {
  constructor(from, to) {
    if (!Number.isInteger(from) || from < LEAST_HZ || from > MOST_HZ) {
      throw new Error(`its rate is odd: got ${from} Hz, need ${LEAST_HZ} to ${MOST_HZ}`);
    }
    const divisor = (a, b) => b ? divisor(b, a % b) : a, common = divisor(from, to);
    this.up = to / common;
    this.down = from / common;
    this.same = from === to;
    this.scale = Math.min(1, to / from) * CUT_OFF; // cut-off, of the source's Nyquist frequency
    this.half = Math.ceil(ZERO_CROSSINGS / this.scale);
    this.rows = new Map();
    this.kept = new Float32Array(2 * this.half); // zeros before the beginning
    this.count = this.position = this.half;
    this.phase = 0;
  }

  // The taps of an output at phase / up behind a source sample.
  row(phase) {
    let row = this.rows.get(phase);
    if (row) return row;
    row = new Float64Array(2 * this.half);
    let sum = 0;
    for (let i = 0; i < row.length; i++) {
      const at = i - this.half + 1 - phase / this.up, x = Math.PI * this.scale * at, inside = 1 - (at / this.half) ** 2;
      const sinc = at === 0 ? 1 : Math.sin(x) / x;
      row[i] = inside <= 0 ? 0 : sinc * bessel(KAISER_BETA * Math.sqrt(inside));
      sum += row[i];
    }
    for (let i = 0; i < row.length; i++) row[i] /= sum;
    if (this.rows.size < 4096) this.rows.set(phase, row);
    return row;
  }

  // Float32Array -> Int16Array of what is complete.
  push(block) {
    if (this.same) return Int16Array.from(block, to16);
    this.keep(block);
    const out = [];
    while (this.position + this.half < this.count) {
      const row = this.row(this.phase), first = this.position - this.half + 1;
      let sum = 0;
      for (let i = 0; i < row.length; i++) sum += row[i] * this.kept[first + i];
      out.push(to16(sum));
      this.phase += this.down;
      this.position += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    const over = Math.max(0, this.position - this.half);
    this.kept.copyWithin(0, over, this.count);
    this.count -= over;
    this.position -= over;
    return Int16Array.from(out);
  }

  keep(block) {
    const need = this.count + block.length;
    if (need > this.kept.length) {
      const more = new Float32Array(2 * need);
      more.set(this.kept.subarray(0, this.count));
      this.kept = more;
    }
    this.kept.set(block, this.count);
    this.count = need;
  }

  flush() { return this.same ? new Int16Array(0) : this.push(new Float32Array(this.half + 1)); }
}

// The modified Bessel function of order 0, by its series.
function bessel(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) { term *= (x / 2 / k) ** 2; sum += term; }
  return sum;
}

// To the nearest, ties to even, saturated: as mbx-deploy reads sound files.
function to16(value) {
  const scaled = value * 32768, floor = Math.floor(scaled), rest = scaled - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
  return rounded > 32767 ? 32767 : rounded < -32768 ? -32768 : rounded;
}
