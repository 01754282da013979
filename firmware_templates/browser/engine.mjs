// Serves one request with a compiled recogniser, in node: `node engine.mjs firmware.wasm`, on standard input and output.
// What the page and wasmtime do, too: the module's imports session.read and session.write move the bytes.
import { readFileSync, writeSync } from "node:fs";

const request = readFileSync(0), parts = [];
let at = 0;
const session = {
  read(to, count) {
    if (at + count > request.length) return 0;
    new Uint8Array(memory.buffer, to, count).set(request.subarray(at, at + count));
    at += count;
    return 1;
  },
  write(from, count) {
    parts.push(Buffer.from(memory.buffer.slice(from, from + count)));
    return 1;
  },
};
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), { session });
const memory = instance.exports.memory;
const failed = instance.exports.mbx_serve() !== 0;
const response = Buffer.concat(parts);
for (let done = 0; done < response.length;) {
  try {
    done += writeSync(1, response, done);
  } catch (error) {
    if (error.code !== "EAGAIN") throw error; // a pipe that is full for now
  }
}
process.exitCode = failed ? 1 : 0;
