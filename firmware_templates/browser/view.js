// What is drawn: the device's spectrogram, level, bars, words.
const $ = id => document.getElementById(id);
const SPECTROGRAM_FRAMES = 300, FLOOR_LN = -13.8, LEAST_RANGE_LN = 6, LOG_FRACTION = 2 ** 24, LOWEST_DB = -72;
const LIT_MS = 900, MOST_ROWS = 500;

class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    this.clear();
  }
  clear() {
    this.waiting = [];
    this.brightest = FLOOR_LN + LEAST_RANGE_LN;
    this.pen.fillStyle = "#000";
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }
  add(frames) {
    if (frames.length) this.waiting.push(...frames);
    if (this.waiting.length > SPECTROGRAM_FRAMES) this.waiting = this.waiting.slice(-SPECTROGRAM_FRAMES);
  }
  // Draws what waits: once a picture of the screen, not once a frame.
  draw() {
    const count = this.waiting.length;
    if (!count) return;
    const bands = this.waiting[0].length, { canvas, pen } = this;
    if (canvas.height !== bands) { canvas.width = SPECTROGRAM_FRAMES; canvas.height = bands; this.pen.fillRect(0, 0, canvas.width, bands); }
    pen.drawImage(canvas, -count, 0);
    const columns = pen.createImageData(count, bands);
    this.waiting.forEach((frame, x) => {
      let top = -Infinity;
      for (let band = 0; band < bands; band++) top = Math.max(top, frame[band] / LOG_FRACTION);
      this.brightest = Math.max(top, FLOOR_LN + LEAST_RANGE_LN, this.brightest - 0.005);
      for (let band = 0; band < bands; band++) {
        const value = (frame[band] / LOG_FRACTION - FLOOR_LN) / (this.brightest - FLOOR_LN);
        paint(columns.data, 4 * ((bands - 1 - band) * count + x), Math.min(1, Math.max(0, value)));
      }
    });
    pen.putImageData(columns, canvas.width - count, 0);
    this.waiting = [];
  }
}

// Black, violet, orange, white: bright where it is loud, told apart without seeing colours.
function paint(data, at, value) {
  data[at] = 255 * Math.min(1, 1.9 * value * value + 0.1 * value);
  data[at + 1] = 255 * value ** 2.2;
  data[at + 2] = 255 * Math.min(1, Math.max(0, value < 0.55 ? 1.3 * value : 1.6 - 1.7 * value + (value > 0.85 ? 6 * (value - 0.85) : 0)));
  data[at + 3] = 255;
}

class Level {
  constructor(element) { this.element = element; this.peak = 0; this.toldAt = 0; }
  hear(samples) {
    let top = 0;
    for (const sample of samples) top = Math.max(top, sample < 0 ? -sample : sample);
    this.clipped = top >= 32767;
    this.peak = Math.max(top, this.peak * 0.85);
  }
  draw(now) {
    const db = this.peak ? Math.max(LOWEST_DB, 20 * Math.log10(this.peak / 32768)) : LOWEST_DB;
    this.element.firstElementChild.style.transform = `scaleX(${(1 - db / LOWEST_DB).toFixed(3)})`;
    this.element.classList.toggle("clipped", Boolean(this.clipped));
    if (now - this.toldAt > 500) {
      this.toldAt = now;
      this.element.setAttribute("aria-valuenow", Math.round(db));
      this.element.setAttribute("aria-valuetext", `${Math.round(db)} dBFS${this.clipped ? ", clipped" : ""}`);
      $("decibels").textContent = `${Math.round(db)} dBFS${this.clipped ? ", clipped" : ""}`;
    }
  }
}

class Bars {
  constructor(table, labels) {
    this.rows = labels.map(label => {
      const row = table.tBodies[0].insertRow(), name = document.createElement("th"), bar = document.createElement("i");
      name.scope = "row";
      name.textContent = label;
      row.append(name);
      row.insertCell().append(bar);
      row.cells[1].className = "bar";
      row.insertCell().textContent = "0.00";
      return { row, bar, score: row.cells[2] };
    });
  }
  show(result) { this.result = result; }
  draw() {
    if (!this.result) return;
    this.result.posteriorsQ15.forEach((score, i) => {
      const { row, bar, score: text } = this.rows[i];
      const told = (score / Q15).toFixed(2);
      bar.style.transform = `scaleX(${Math.max(0.004, score / Q15).toFixed(3)})`;
      if (text.textContent !== told) text.textContent = told;
      row.classList.toggle("top", i === this.result.label);
    });
    this.result = null;
  }
}

// The words that were said: the newest is the first. All are kept for the table that is saved.
class Log {
  constructor(table) { this.table = table; this.events = []; }
  add(event) {
    this.events.push(event);
    const row = this.table.tBodies[0].insertRow(0);
    for (const text of [event.seconds.toFixed(2) + " s", event.word, event.score.toFixed(2)]) row.insertCell().textContent = text;
    if (this.table.tBodies[0].rows.length > MOST_ROWS) this.table.tBodies[0].deleteRow(-1);
    this.table.hidden = false;
  }
  csv() {
    const quote = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const rows = this.events.map(event => [event.seconds.toFixed(4), quote(event.word), event.score.toFixed(4)].join(","));
    return ["seconds,word,score", ...rows, ""].join("\r\n");
  }
}

function light(word) {
  $("word").textContent = word;
  $("word").classList.add("on");
  clearTimeout(light.timer);
  light.timer = setTimeout(() => $("word").classList.remove("on"), LIT_MS);
}

function download(data, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
