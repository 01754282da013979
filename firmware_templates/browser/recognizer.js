// The recogniser: an instance of the generated C. The functions are those of parts/live/mbx_live.h, by their names.
const OK = 0, WINDOW_READY = 1, NO_WORD = 0xFFFF, Q15 = 32768;
const LABEL = 0, SCORE = 1, WORD = 2, WORD_SCORE = 3, SAMPLES_LOW = 4, SAMPLES_HIGH = 5; // of mbx_live_result()
const FUNCTIONS = ["digest", "begin", "samples", "capacity", "feed", "consumed", "run", "finish_clip", "lose",
  "set_threshold", "result", "logits", "posteriors", "log_mels", "bands", "frames"];
const KEPT_FRAMES = 64; // MBX_LIVE_FRAMES

class Recognizer {
  constructor(module, classes) {
    this.io = { request: new Uint8Array(0), at: 0, parts: [] };
    const session = { read: (to, count) => this.read(to, count), write: (from, count) => this.write(from, count) };
    const made = new WebAssembly.Instance(module, { session }).exports;
    const missing = [...FUNCTIONS.map(name => "mbx_live_" + name), "mbx_serve", "memory"].find(name => !(name in made));
    if (missing) throw new Error("it has no " + missing);
    this.c = Object.fromEntries(FUNCTIONS.map(name => [name, made["mbx_live_" + name]]));
    this.serveSession = made.mbx_serve;
    this.memory = made.memory; // it never grows: the C has no heap
    this.classes = classes;
    this.begin();
    this.capacity = this.c.capacity();
    this.samples = new Int16Array(this.memory.buffer, this.c.samples(), this.capacity);
  }

  begin() {
    if (this.c.begin() !== OK) throw new Error("the recogniser does not start");
    this.shownFrames = 0;
  }

  result() {
    const told = new Uint32Array(this.memory.buffer, this.c.result(), 6);
    const event = told[WORD] === NO_WORD ? null : { word: told[WORD], scoreQ15: told[WORD_SCORE],
      samples: told[SAMPLES_HIGH] * 2 ** 32 + told[SAMPLES_LOW] };
    return { label: told[LABEL], scoreQ15: told[SCORE], event,
      logits: new Int8Array(this.memory.buffer, this.c.logits(), this.classes).slice(),
      posteriorsQ15: new Uint16Array(this.memory.buffer, this.c.posteriors(), this.classes).slice() };
  }

  // Continuous audio: onresult hears of each decision.
  feed(samples, onresult) {
    for (let at = 0; at < samples.length;) {
      const part = samples.subarray(at, at + this.capacity);
      this.samples.set(part);
      for (let done = 0; done < part.length;) {
        const status = this.c.feed(done, part.length - done);
        done += this.c.consumed();
        if (status === WINDOW_READY) onresult(this.run());
        else if (status !== OK) throw new Error("the recogniser takes no samples: status " + status);
      }
      at += part.length;
    }
  }

  run() {
    const status = this.c.run();
    if (status !== OK) throw new Error("the recogniser does not run: status " + status);
    return this.result();
  }

  // The end of a recording that stands alone; a model that streams hears silence behind it, and may decide many times.
  finish(onresult) {
    for (;;) {
      const status = this.c.finish_clip();
      if (status !== WINDOW_READY) return;
      onresult(this.run());
      if (!MODEL.streaming) return;
    }
  }

  setThreshold(label, thresholdQ15) { this.c.set_threshold(label, thresholdQ15); }
  lose(samples) { this.c.lose(samples); }

  // The log-mels of frames that were computed since the last call, the oldest first; Q24.
  newFrames() {
    const bands = this.c.bands(), count = this.c.frames(), rows = [];
    for (let n = Math.max(this.shownFrames, count - KEPT_FRAMES); n < count; n++) {
      const row = this.c.log_mels() + 4 * bands * (n % KEPT_FRAMES);
      rows.push(new Int32Array(this.memory.buffer, row, bands).slice());
    }
    this.shownFrames = count;
    return rows;
  }

  // The session of mbx-deploy run and verify: a request's bytes in, the response's bytes out; null where it is refused.
  serve(request) {
    this.io = { request, at: 0, parts: [] };
    if (this.serveSession() !== 0) return null;
    const response = new Uint8Array(this.io.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.io.parts) { response.set(part, at); at += part.length; }
    return response;
  }
  read(to, count) {
    const io = this.io;
    if (io.at + count > io.request.length) return 0;
    new Uint8Array(this.memory.buffer, to, count).set(io.request.subarray(io.at, io.at + count));
    io.at += count;
    return 1;
  }
  write(from, count) { this.io.parts.push(new Uint8Array(this.memory.buffer, from, count).slice()); return 1; }
}

// What a recording that stands alone is taken for, of all decisions on it. Twin: answer() of mbx_deploy/sim/decision.py.
function answer(results) {
  const last = results[results.length - 1], { smoothing, thresholdsQ15, isWord } = MODEL.decision;
  if (!MODEL.streaming) return { label: last.label, scoreQ15: last.scoreQ15 };
  let best = { label: last.label, scoreQ15: last.scoreQ15 }, mean = -1;
  for (let place = 0; place < results.length; place++) {
    for (let label = 0; label < MODEL.labels.length; label++) {
      let sum = 0;
      for (let n = Math.max(0, place - smoothing + 1); n <= place; n++) sum += results[n].posteriorsQ15[label];
      const found = Math.floor(sum / smoothing);
      if (isWord[label] && found > thresholdsQ15[label] && found > mean) { mean = found; best = { label, scoreQ15: found }; }
    }
  }
  return best;
}
