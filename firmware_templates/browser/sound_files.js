// Sound files -> int16 samples at the model's rate, and back. 16-bit WAV is read here, bit for bit: a browser scales it.
const LONGEST_S = 1800, WAV_HEAD = 44, PCM = 1, EXTENSIBLE = 0xFFFE;

function tagAt(bytes, at) { return String.fromCharCode(...bytes.subarray(at, at + 4)); }

// {rate, channels: [Float32Array]}; null for what the browser must decode.
function parseWav(bytes) {
  if (bytes.length < 12 || tagAt(bytes, 0) !== "RIFF" || tagAt(bytes, 8) !== "WAVE") return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let format = null;
  for (let at = 12; at + 8 <= bytes.length;) {
    const id = tagAt(bytes, at), size = view.getUint32(at + 4, true), body = at + 8;
    if (id === "fmt " && body + 16 <= bytes.length) {
      format = { tag: view.getUint16(body, true), channels: view.getUint16(body + 2, true),
        rate: view.getUint32(body + 4, true), bits: view.getUint16(body + 14, true) };
    }
    if (id === "data") {
      if (!format || format.bits !== 16 || ![PCM, EXTENSIBLE].includes(format.tag) || format.channels < 1) return null;
      return { rate: format.rate, channels: wavChannels(view, body, size, format.channels) };
    }
    at = body + size + (size & 1);
  }
  return null;
}

function wavChannels(view, body, size, count) {
  const streamed = size === 0 || size >= 0x7FFFF000, rest = view.byteLength - body; // of unknown length
  if (!streamed && size > rest) throw new Error(`it is cut short: got ${rest} bytes of sound, need ${size}`);
  const frames = Math.floor((streamed ? rest : size) / 2 / count);
  return Array.from({ length: count }, (_, channel) => Float32Array.from({ length: frames },
    (_, i) => view.getInt16(body + 2 * (i * count + channel), true) / 32768));
}

// The rate of a FLAC file, so that the browser does not resample it.
function rateOf(bytes) {
  return tagAt(bytes, 0) === "fLaC" ? (bytes[18] << 12) | (bytes[19] << 4) | (bytes[20] >> 4) : 48000;
}

// Chromium divides a 16-bit file's positive samples by 32767 and its negative ones by 32768; told by all being whole then.
function unscale(values) {
  const whole = x => Math.abs(x - Math.round(x)) < 4e-3, scaled = x => x * (x > 0 ? 32767 : 32768);
  return values.every(x => whole(scaled(x))) ? values.map(x => Math.round(scaled(x)) / 32768) : values;
}

async function decode(bytes) {
  try {
    const audio = await new OfflineAudioContext(1, 1, rateOf(bytes)).decodeAudioData(bytes.buffer.slice(0));
    const channels = Array.from({ length: audio.numberOfChannels }, (_, c) => unscale(audio.getChannelData(c)));
    return { rate: audio.sampleRate, channels };
  } catch {
    throw new Error("it is no sound that this browser decodes: need WAV, FLAC, Ogg or MP3");
  }
}

// {samples: Int16Array, notes: [text]}. Throws for what holds no sound, or too much.
async function readSound(file) {
  if (file.size > LONGEST_S * 48000 * 8) throw new Error(`it is too long: need ${LONGEST_S / 60} minutes at most`);
  const bytes = new Uint8Array(await file.arrayBuffer()), notes = [];
  if (bytes.length === 0) throw new Error("it is empty");
  let sound = parseWav(bytes);
  if (!sound) {
    sound = await decode(bytes);
    notes.push("decoded by the browser");
  }
  const resampler = new Resampler(sound.rate, MODEL.rate);
  let mono = sound.channels[0];
  if (mono.length === 0) throw new Error("it holds no samples");
  if (mono.length > LONGEST_S * sound.rate) throw new Error(`it is too long: need ${LONGEST_S / 60} minutes at most`);
  if (sound.channels.length > 1) {
    mono = mono.map((_, i) => sound.channels.reduce((sum, channel) => sum + channel[i], 0) / sound.channels.length);
    notes.push("converted to mono");
  }
  if (!resampler.same) notes.push(`converted from ${sound.rate} Hz (mbx-deploy's converter is another: bytes may differ)`);
  return { samples: joined([resampler.push(mono), resampler.flush()]), notes };
}

function joined(blocks) {
  const all = new Int16Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) { all.set(block, at); at += block.length; }
  return all;
}

// The loudest window of a recording, as mbx-deploy run chooses it. Twin: fit_clip() of mbx_deploy/data/audio.py.
function fitClip(samples, length) {
  if (samples.length <= length) return samples;
  const sums = new Float64Array(samples.length + 1), last = samples.length - length;
  for (let i = 0; i < samples.length; i++) sums[i + 1] = sums[i] + samples[i] * samples[i];
  let best = -1, at = 0;
  for (let start = 0; start <= last; start = start < last && start + 160 > last ? last : start + 160) {
    const energy = sums[start + length] - sums[start];
    if (energy > best) { best = energy; at = start; }
  }
  return samples.subarray(at, at + length);
}

function wavOf(samples, rate) {
  const view = new DataView(new ArrayBuffer(WAV_HEAD + 2 * samples.length));
  const tag = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  tag(0, "RIFF"); tag(8, "WAVEfmt "); tag(36, "data");
  view.setUint32(4, 36 + 2 * samples.length, true);
  view.setUint32(16, 16, true); view.setUint16(20, PCM, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(WAV_HEAD + 2 * i, sample, true));
  return view.buffer;
}
