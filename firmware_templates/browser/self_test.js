// Does this browser compute what the device computes? Noise by a recipe through every stage and layer, one checksum.
// Twin: mbx_deploy/codegen/self_test.py.
const MAGIC = 0x3151424D, STREAM = 1, TRACE_LAYERS = 1, BLOCK = 512, RECORD_RESULT = 256, RECORD_END = 257, FEATURES = 6;
const QUIETER_BITS = [0, 3, 7, 12], PARTS = 8;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xEDB88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes, before) {
  let c = ~before;
  for (const byte of bytes) c = CRC_TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}

function testRequest(count) {
  const view = new DataView(new ArrayBuffer(24 + 2 * count));
  [MAGIC, TRACE_LAYERS, 1, STREAM, BLOCK, count].forEach((value, i) => view.setUint32(4 * i, value, true));
  for (let i = 0, x = 2463534242; i < count; i++) {
    x ^= x << 13; x ^= x >>> 17; x ^= x << 5;
    view.setInt16(24 + 2 * i, x >> (16 + QUIETER_BITS[Math.floor(i * PARTS / count) % QUIETER_BITS.length]), true);
  }
  return new Uint8Array(view.buffer);
}

// Of each decision: features and layers in their order, then logits, scores, word and its score.
function testChecksum(response, classes) {
  const view = new DataView(response.buffer);
  let checksum = 0, layers = new Map();
  for (let at = 0; at + 8 <= response.length;) {
    const kind = view.getUint32(at, true), body = response.subarray(at + 8, at + 8 + view.getUint32(at + 4, true));
    at += 8 + body.length;
    if (kind === RECORD_END) break;
    if (kind !== RECORD_RESULT) {
      if (kind >= FEATURES) layers.set(kind, [...(layers.get(kind) || []), body]); // a cascade tells it in stripes
      continue;
    }
    for (const key of [...layers.keys()].sort((a, b) => a - b)) {
      for (const part of layers.get(key)) checksum = crc32(part, checksum);
    }
    const event = body.subarray(4, 8), logits = body.subarray(16, 16 + classes), scores = body.subarray(16 + classes);
    checksum = crc32(event, crc32(scores, crc32(logits, checksum)));
    layers = new Map();
  }
  return checksum;
}

// What is wrong with the recogniser in this page: null where it computes what the simulator computed.
function faultOf(recognizer) {
  if (recognizer.c.digest() >>> 0 !== MODEL.build) {
    return `the WebAssembly in it is of another build: got ${hex(recognizer.c.digest())}, need ${hex(MODEL.build)}`;
  }
  const response = recognizer.serve(testRequest(MODEL.test.samples));
  if (response === null) return "it does not take the test signal";
  const found = testChecksum(response, MODEL.labels.length);
  return found === MODEL.test.checksum ? null : `the test signal gives ${hex(found)}, need ${hex(MODEL.test.checksum)}`;
}

function hex(value) { return (value >>> 0).toString(16).padStart(8, "0"); }
