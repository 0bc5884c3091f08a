// Cine: through all planes, downwards, and from the last to the first again.

import { downwards } from "./wheel.js";

const STEP_MS = 100; // from plane to plane

export class Cine {
  #timer = null;
  #busy = false; // planes may come slower than they are asked for

  constructor(viewer) {
    this.viewer = viewer;
  }

  get plays() {
    return Boolean(this.#timer);
  }

  toggle() {
    if (this.plays) return this.stop();
    this.#timer = setInterval(() => this.#next(), STEP_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
  }

  async #next() {
    if (this.#busy) return;
    this.#busy = true;
    const { viewer } = this;
    const { count } = viewer.stack;
    const next = viewer.index + downwards(viewer.stack);
    await viewer.goTo((next + count) % count).finally(() => (this.#busy = false));
  }
}
