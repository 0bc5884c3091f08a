// Where the page's data come from: its server, or files beside it on a disk. Both give the same:
// JSON, and chunks of planes as 16-bit numbers.

import { CarriedDecisions } from "./carried.js";

class ServerSource {
  writable = true;

  async json(path) {
    return this.#checked(await answer(`/api/${path}`));
  }

  async post(path, body) {
    return this.#send(`/api/${path}`, body);
  }

  // The case as it is then.
  async decide(cid, body) {
    return this.post(`decision/${cid}`, body);
  }

  async logOut() {
    return this.#send("/logout", {});
  }

  async #send(address, body) {
    const headers = { "Content-Type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(body) };
    return this.#checked(await answer(address, request));
  }

  worklist() {
    return this.json("worklist");
  }

  geometry(sid) {
    return this.json(`geometry/${sid}`);
  }

  changes(cid) {
    return this.json(`changes/${cid}`);
  }

  async chunk(sid, direction, number) {
    const response = await answer(`/api/planes/${sid}/${direction}/${number}`);
    if (!response.ok) throw await failure(response);
    const numbers = new Int16Array(await response.arrayBuffer());
    return { numbers, faults: JSON.parse(response.headers.get("X-Faults")) };
  }

  async #checked(response) {
    if (!response.ok) throw await failure(response);
    return response.json();
  }
}

// The server's answer, whatever it is.
async function answer(address, request) {
  try {
    return await fetch(address, request);
  } catch {
    throw new Error("the server does not answer");
  }
}

// What a refusal says; with `case`, the case as it is now, where another decision came between.
async function failure(response) {
  const text = await response.text();
  try {
    const said = JSON.parse(text);
    return Object.assign(new Error(said.error), { case: said.case });
  } catch {
    return new Error(text || `the server answered ${response.status}`);
  }
}

// A page opened from a disk may not fetch; it may load scripts. Each calls LDCT.put with a name
// and what it holds.
class DiskSource {
  writable = false;
  #held = new Map();

  constructor() {
    globalThis.LDCT.put = (name, value) => this.#held.set(name, value);
  }

  async worklist() {
    const { worklist, decisions } = globalThis.LDCT;
    this.carried = new CarriedDecisions(worklist.cases, decisions);
    return { ...worklist, cases: worklist.cases.map((each) => this.carried.row(each)) };
  }

  async decide(cid, body) {
    return this.carried.decide(cid, body);
  }

  async geometry(sid) {
    return globalThis.LDCT.geometry[sid];
  }

  async changes(cid) {
    return globalThis.LDCT.changes[cid];
  }

  async chunk(sid, direction, number) {
    const name = `${sid}/${direction}/${number}`;
    await this.#load(`data/${sid}/${direction}-${number}.js`);
    const { deflated, faults } = this.#held.get(name);
    this.#held.delete(name);
    return { numbers: new Int16Array(await inflated(deflated)), faults };
  }

  #load(address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = () => resolve(script.remove());
      script.onerror = () => reject(new Error(`${address} is missing from this disk`));
      document.head.append(script);
    });
  }
}

function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

export const source = globalThis.LDCT ? new DiskSource() : new ServerSource();

// Planes held in memory, at most so many bytes; the least recently used go first.
const MOST_BYTES = 192 * 1024 * 1024;

export class Planes {
  #chunks = new Map();
  #bytes = 0;

  constructor(chunkLength) {
    this.chunkLength = chunkLength;
  }

  // { numbers: Int16Array of one plane, fault: why it cannot be shown, or undefined }
  async plane(sid, direction, index, size) {
    const number = Math.floor(index / this.chunkLength);
    const chunk = await this.#chunk(sid, direction, number);
    const start = (index - number * this.chunkLength) * size;
    return { numbers: chunk.numbers.subarray(start, start + size), fault: chunk.faults[index] };
  }

  prefetch(sid, direction, index, count) {
    if (index < 0 || index >= count) return;
    this.#chunk(sid, direction, Math.floor(index / this.chunkLength)).catch(() => {});
  }

  #chunk(sid, direction, number) {
    const name = `${sid}/${direction}/${number}`;
    let held = this.#chunks.get(name);
    if (held) this.#chunks.delete(name);
    else held = this.#loaded(name, sid, direction, number);
    this.#chunks.set(name, held);
    return held.promise;
  }

  #loaded(name, sid, direction, number) {
    const held = { bytes: 0 };
    held.promise = source.chunk(sid, direction, number).then(
      (chunk) => {
        if (this.#chunks.get(name) === held) {
          held.bytes = chunk.numbers.byteLength;
          this.#bytes += held.bytes;
          this.#shrink(name);
        }
        return chunk;
      },
      (error) => {
        this.#chunks.delete(name);
        throw error;
      },
    );
    return held;
  }

  #shrink(latest) {
    for (const [name, held] of this.#chunks) {
      if (this.#bytes <= MOST_BYTES) return;
      if (name === latest || !held.bytes) continue;
      this.#bytes -= held.bytes;
      this.#chunks.delete(name);
    }
  }
}
