// Work that comes faster than it can be done: one at a time for each name, and the last one counts.

export class Latest {
  #waiting = {};
  #running = {};

  do(name, act) {
    this.#waiting[name] = act;
    if (!this.#running[name]) this.#run(name);
  }

  async #run(name) {
    this.#running[name] = true;
    while (this.#waiting[name]) {
      const act = this.#waiting[name];
      this.#waiting[name] = null;
      await act().catch(() => {}); // a plane that cannot be read is said on its panel
    }
    this.#running[name] = false;
  }
}
