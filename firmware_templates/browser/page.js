// The page: what happens where something is pressed, dropped or heard.
const KEPT_S = 10, FILE_PIECE = 16000, NEVER_PERCENT = 101, PICTURE_MS = 90; // ten pictures a second are enough
const MODEL = JSON.parse($("model").textContent);
const state = { live: null, files: null, microphone: null, heard: [], heardSamples: 0, dropped: 0 };
const spectrogram = new Spectrogram($("spectrogram")), level = new Level($("level")), log = new Log($("log"));
const bars = new Bars($("bars"), MODEL.labels);

function trouble(text) { $("trouble").textContent = text; }

function verdict(fault) {
  $("check").dataset.state = fault ? "bad" : "good";
  $("check").textContent = fault ? `Don't trust it: this page does not compute what the device computes (${fault}).`
    : "Checked: in this browser, every layer gives the device's bytes.";
}

// ---- live
function hear(samples, lost) {
  if (lost) {
    state.live.lose(lost);
    state.dropped += lost;
    $("dropped").textContent = `${(1000 * state.dropped / MODEL.rate).toFixed(0)} ms dropped`;
  }
  keep(samples);
  level.hear(samples);
  state.live.feed(samples, result => {
    bars.show(result);
    if (result.event) said(result.event);
  });
  spectrogram.add(state.live.newFrames());
  if (!state.drawing) state.drawing = setTimeout(() => requestAnimationFrame(draw), PICTURE_MS);
}

function said({ word, scoreQ15, samples }) {
  log.add({ seconds: samples / MODEL.rate, word: MODEL.labels[word], score: scoreQ15 / Q15 });
  light(MODEL.labels[word]);
  $("save-csv").disabled = false;
}

function keep(samples) {
  state.heard.push(samples);
  state.heardSamples += samples.length;
  while (state.heardSamples - state.heard[0].length >= KEPT_S * MODEL.rate) state.heardSamples -= state.heard.shift().length;
}

function draw(now) {
  state.drawing = null;
  if (!state.microphone) return;
  spectrogram.draw();
  level.draw(now);
  bars.draw();
}

async function listen() {
  trouble("");
  if (state.microphone) { stop(); return; }
  const why = whyNoMicrophone();
  if (why) { trouble(why); return; }
  const microphone = new Microphone(hear, text => { stop(); trouble(text); }, () => Number($("gain").value));
  $("listen").disabled = true;
  try {
    begin();
    await microphone.open($("device").value);
    state.microphone = microphone;
    $("listen").textContent = "Stop";
    $("audio").textContent = microphone.describe();
    $("dropped").textContent = "0 ms dropped";
    $("save-wav").disabled = false;
    await showMicrophones();
    if (navigator.wakeLock) state.awake = await navigator.wakeLock.request("screen").catch(() => null);
  } catch (error) {
    trouble(microphoneTrouble(error));
  } finally {
    $("listen").disabled = false;
  }
}

function begin() {
  Object.assign(state, { heard: [], heardSamples: 0, dropped: 0 });
  state.live.begin();
  applyThresholds();
  spectrogram.clear();
}

function stop() {
  if (state.microphone) state.microphone.close();
  if (state.awake) state.awake.release().catch(() => {});
  state.microphone = state.awake = null;
  $("listen").textContent = "Listen";
  $("audio").textContent = "The microphone is off.";
  level.peak = 0;
  level.draw(Infinity);
}

async function showMicrophones() {
  const chosen = $("device").value, found = await listMicrophones();
  $("device").replaceChildren(new Option("the browser's choice", ""), ...found.map(one => new Option(one.label, one.deviceId)));
  if (found.some(one => one.deviceId === chosen)) $("device").value = chosen;
}

// ---- how sure a word must be
function applyThresholds() {
  for (const { label, slider } of state.sliders) {
    const percent = Number(slider.value), own = MODEL.decision.thresholdsQ15[label];
    const changed = percent !== percentOf(own);
    const q15 = !changed ? own : percent >= NEVER_PERCENT ? Q15 + 1 : Math.round(percent * Q15 / 100);
    state.live.setThreshold(label, q15);
    slider.nextElementSibling.textContent = percent >= NEVER_PERCENT ? "never" : (q15 / Q15).toFixed(2);
    slider.setAttribute("aria-valuetext", slider.nextElementSibling.textContent);
  }
}
function percentOf(q15) { return q15 > Q15 ? NEVER_PERCENT : Math.round(100 * q15 / Q15); }

function makeSliders() {
  state.sliders = MODEL.labels.map((text, label) => ({ text, label })).filter(({ label }) => MODEL.decision.isWord[label])
    .map(({ text, label }) => {
      const line = document.createElement("label"), name = document.createElement("span"), slider = document.createElement("input");
      name.textContent = text;
      Object.assign(slider, { type: "range", min: 1, max: NEVER_PERCENT, step: 1 });
      slider.value = percentOf(MODEL.decision.thresholdsQ15[label]);
      slider.oninput = applyThresholds;
      line.append(name, slider, document.createElement("output"));
      $("sliders").append(line);
      return { label, slider };
    });
}
function moveAll() {
  const by = Number($("all").value);
  $("all-told").textContent = by === 0 ? "as the model has them" : `${by > 0 ? "+" : "-"}${Math.abs(by / 100).toFixed(2)}`;
  for (const { label, slider } of state.sliders) {
    const own = percentOf(MODEL.decision.thresholdsQ15[label]);
    slider.value = own >= NEVER_PERCENT ? own : Math.min(100, Math.max(1, own + by));
  }
  applyThresholds();
}

// ---- recordings
async function runFiles(files) {
  $("results").hidden = false;
  for (const file of files) {
    const row = $("results").tBodies[0].insertRow(), cells = Array.from({ length: 5 }, () => row.insertCell());
    cells[0].textContent = file.name;
    row.dataset.state = "busy";
    try {
      const { samples, notes } = await readSound(file), found = await hearFile(samples, notes);
      cells[1].textContent = found.word;
      cells[2].textContent = found.score;
      cells[3].textContent = found.events.map(event => `${event.seconds.toFixed(2)} s ${event.word} ${event.score.toFixed(2)}`).join("; ");
      cells[4].textContent = notes.join("; ");
      row.dataset.logits = found.logits;
      row.dataset.events = JSON.stringify(found.events);
      row.dataset.state = "done";
    } catch (error) {
      for (const cell of cells.slice(2)) cell.remove();
      Object.assign(cells[1], { colSpan: 4, className: "bad", textContent: `This file can't be heard: ${error.message}.` });
      row.dataset.state = "bad";
    }
  }
}

// As mbx-deploy run hears a file: a window alone, or the whole where the model streams; events where it is long enough.
async function hearFile(samples, notes) {
  const clip = MODEL.streaming ? samples : fitClip(samples, MODEL.clipSamples), recognizer = state.files;
  if (clip.length < samples.length) notes.push(`the loudest ${(clip.length / MODEL.rate).toFixed(2)} s are named`);
  const alone = await decisionsOf(recognizer, clip, true);
  if (!alone.length) throw new Error("it is too short: no decision is due before its end");
  const whole = MODEL.streaming ? alone : samples.length < 2 * MODEL.clipSamples ? [] : await decisionsOf(recognizer, samples, false);
  const events = whole.filter(result => result.event).map(({ event }) => (
    { word: MODEL.labels[event.word], seconds: event.samples / MODEL.rate, score: event.scoreQ15 / Q15 }));
  const named = answer(alone);
  return { word: MODEL.labels[named.label], score: (named.scoreQ15 / Q15).toFixed(3), events,
    logits: Array.from(alone[alone.length - 1].logits).join(" ") };
}

async function decisionsOf(recognizer, samples, clip) {
  const results = [];
  recognizer.begin();
  for (let at = 0; at < samples.length; at += FILE_PIECE) {
    recognizer.feed(samples.subarray(at, at + FILE_PIECE), result => results.push(result));
    await new Promise(resolve => setTimeout(resolve)); // the page stays alive
  }
  if (clip && (MODEL.streaming || !results.length)) recognizer.finish(result => results.push(result));
  return results;
}

// ---- does anything leave?
async function tryToLeave() {
  const refused = new Promise(resolve => {
    document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective), { once: true });
    setTimeout(() => resolve(null), 2000);
  });
  fetch("https://example.com/?words=" + log.events.length, { mode: "no-cors" }).catch(() => {});
  const by = await refused;
  $("leaves").textContent = by ? `The page tried to send something: the browser refused it (${by}). So it stays here.`
    : "The browser did not say that it refused: it may not know this page's rules. Take it off the network to be sure.";
}

function wire() {
  $("listen").onclick = listen;
  $("device").onchange = async () => { if (state.microphone) { stop(); await listen(); } };
  $("all").oninput = moveAll;
  $("reset").onclick = () => { $("all").value = 0; moveAll(); };
  $("save-wav").onclick = () => download(wavOf(joined(state.heard), MODEL.rate), "audio/wav", `${MODEL.prefix}-heard.wav`);
  $("save-csv").onclick = () => download(log.csv(), "text/csv", `${MODEL.prefix}-words.csv`);
  $("files").onchange = async event => { await runFiles([...event.target.files]); event.target.value = ""; };
  $("leave").onclick = tryToLeave;
  addEventListener("dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", event => { event.preventDefault(); $("drop").classList.remove("over"); runFiles([...event.dataTransfer.files]); });
  if (navigator.mediaDevices) navigator.mediaDevices.addEventListener("devicechange", showMicrophones);
}

async function open() {
  if (typeof WebAssembly !== "object") throw new Error("this browser has no WebAssembly: need Chrome 97, Firefox 102, Safari 16 or newer");
  const bytes = Uint8Array.from(atob($("wasm").textContent.trim()), letter => letter.charCodeAt(0));
  const module = await WebAssembly.compile(bytes);
  state.live = new Recognizer(module, MODEL.labels.length);
  state.files = new Recognizer(module, MODEL.labels.length);
  verdict(faultOf(state.files));
  makeSliders();
  moveAll();
  wire();
  await showMicrophones();
  const why = whyNoMicrophone();
  if (why) trouble(why); else $("listen").disabled = false;
  $("files").disabled = false;
}

open().catch(error => {
  verdict(error.message);
  trouble(`The recogniser in this page does not run: ${error.message}.`);
}).finally(() => { document.documentElement.dataset.opened = Math.round(performance.now()); });
