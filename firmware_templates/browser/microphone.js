// The microphone: blocks of floats at the audio context's own rate, each with the place of its first sample.
const BLOCK_SAMPLES = 1024, MOST_BEHIND_S = 1; // what is further behind is dropped, and counted

// Runs in the audio thread. A data: URL, since a blob: is refused to a page from the disk.
const WORKLET = "data:text/javascript," + encodeURIComponent(`registerProcessor("mbx-tap", class extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Float32Array(${BLOCK_SAMPLES}); this.count = 0; }
  process(inputs) {
    const channel = inputs[0][0];
    if (!channel) return true;
    if (this.count === 0) this.first = currentFrame;
    this.block.set(channel, this.count);
    this.count += channel.length;
    if (this.count >= this.block.length) {
      this.port.postMessage({ first: this.first, block: this.block.slice() });
      this.count = 0;
    }
    return true;
  }
});`);

// Why a microphone could not be had, in one line.
function microphoneTrouble(error) {
  const known = {
    NotAllowedError: "Permission to use the microphone was refused: allow it in the browser's address bar, then press Listen.",
    SecurityError: "This browser forbids the microphone to this page: see its settings for this site.",
    NotFoundError: "No microphone was found: plug one in, then press Listen. Files work without one.",
    OverconstrainedError: "The chosen microphone is not there any more: choose another one.",
    NotReadableError: "The microphone is in use by another program or page, or switched off: close that, then press Listen.",
    AbortError: "The microphone stopped before it began: press Listen again.",
  };
  return known[error.name] || `The microphone can't be used: ${error.message || error.name}`;
}

// Why this page will have no microphone at all, or null.
function whyNoMicrophone() {
  if (!window.isSecureContext) {
    return "This page came over plain http, where browsers give no microphone: open it from the disk, at "
      + "http://localhost, or over https (mbx-deploy serve BUILD --phone). Files work here, too.";
  }
  if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia) {
    return "This browser gives no microphone to pages: take another one. Files work here, too.";
  }
  if (!window.AudioWorkletNode) {
    return "This browser has no AudioWorklet: need Chrome 97, Firefox 102, Safari 16 or newer. Files work here, too.";
  }
  return null;
}

class Microphone {
  // hear(samples, lost): int16 at the model's rate, and how many were lost before them. ended(trouble): it was taken away.
  constructor(hear, ended, gain) {
    this.hear = hear;
    this.ended = ended;
    this.gain = gain;
    this.next = null; // the place of the sample that should come next
  }

  async open(deviceId) {
    const wanted = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
    if (deviceId) wanted.deviceId = { exact: deviceId };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    try {
      await this.connect();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  async connect() {
    this.track = this.stream.getAudioTracks()[0];
    this.context = new AudioContext(); // at its own rate: browsers' own converters differ
    this.resampler = new Resampler(this.context.sampleRate, MODEL.rate);
    this.context.resume().catch(() => {}); // not awaited: without a gesture it never settles
    await this.context.audioWorklet.addModule(WORKLET);
    const source = this.context.createMediaStreamSource(this.stream), mute = this.context.createGain();
    this.tap = new AudioWorkletNode(this.context, "mbx-tap");
    this.tap.port.onmessage = message => this.take(message.data);
    mute.gain.value = 0; // what is connected to nothing is not run
    source.connect(this.tap).connect(mute).connect(this.context.destination);
    this.track.onended = () => this.ended("The microphone was taken away: plug it in, then press Listen.");
  }

  take({ first, block }) {
    if (this.closed) return;
    const rate = this.context.sampleRate, last = first + block.length;
    if (this.context.currentTime * rate - last > MOST_BEHIND_S * rate) return; // counted as a gap before the next block
    const gap = this.next === null ? 0 : Math.max(0, first - this.next);
    this.next = last;
    const gain = this.gain();
    this.hear(this.resampler.push(gain === 1 ? block : block.map(x => x * gain)), Math.round(gap * MODEL.rate / rate));
  }

  // What is heard, in words.
  describe() {
    const set = this.track.getSettings(), kept = ["echoCancellation", "noiseSuppression", "autoGainControl"].filter(key => set[key]);
    const processed = kept.length ? `the browser keeps ${kept.join(", ")} on` : "unprocessed";
    return `${this.track.label || "microphone"}, ${this.context.sampleRate} Hz, ${processed}`;
  }

  close() {
    this.closed = true;
    for (const track of this.stream.getTracks()) { track.onended = null; track.stop(); }
    if (this.context) this.context.close();
  }
}

// [{deviceId, label}] of the microphones that there are; labels are told once the permission was given.
async function listMicrophones() {
  if (!navigator.mediaDevices || !navigator.mediaDevices.enumerateDevices) return [];
  const found = (await navigator.mediaDevices.enumerateDevices()).filter(one => one.kind === "audioinput" && one.deviceId);
  return found.map((one, i) => ({ deviceId: one.deviceId, label: one.label || `microphone ${i + 1}` }));
}
