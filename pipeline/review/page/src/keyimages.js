// Key images: slices that a reader points out to others, saved as a DICOM Key Object Selection.

import { source } from "./data.js";
import { make, reader, showMessage } from "./dom.js";

export class KeyImages {
  #numbers = new Set(); // of slices of the case's first series, from 0
  #shown = "";

  // cid: of the case that they are saved with; none in a reader study.
  constructor(viewer, cid) {
    Object.assign(this, { viewer, cid });
  }

  get #canSave() {
    return Boolean(this.cid && source.writable);
  }

  // Take up what was saved last.
  async load() {
    if (!this.#canSave) return;
    try {
      const { slices } = await source.json(`key-images/${this.cid}`);
      slices.forEach((number) => this.#numbers.add(number));
      if (slices.length) this.#changed();
    } catch (error) {
      showMessage(`saved key images cannot be shown: ${error.message}`);
    }
  }

  // The slice that is shown becomes one, or is none any more.
  toggle() {
    if (!this.#canSave) return showMessage("key images cannot be saved here");
    const { viewer } = this;
    if (viewer.state.direction !== "slices")
      return showMessage("a key image is a slice as it was acquired, not a plane across");
    const number = viewer.index;
    if (!this.#numbers.delete(number)) this.#numbers.add(number);
    this.#changed();
  }

  #changed() {
    const { viewer } = this;
    const { origins_mm } = viewer.reference.stacks.slices;
    viewer.state.keyPlaces = [...this.#numbers].map((number) => origins_mm[number]);
    viewer.textsChanged();
  }

  async save() {
    if (!reader()) return showMessage("write your name first, top right");
    const slices = this.#sorted();
    try {
      const { file } = await source.post(`key-images/${this.cid}`, { reader: reader(), slices });
      showMessage(`saved as ${file}`);
    } catch (error) {
      showMessage(`NOT SAVED: ${error.message}`);
    }
  }

  #sorted() {
    return [...this.#numbers].toSorted((a, b) => a - b);
  }

  // Fill `host`, unless it shows just this already.
  show(host) {
    const numbers = this.#sorted();
    if (!host || numbers.join() === this.#shown) return;
    this.#shown = numbers.join();
    if (!numbers.length) return host.replaceChildren();
    const go = (number) => this.viewer.goToSlice(number);
    const button = (text, act, id) => make("button", { type: "button", id, onclick: act }, text);
    host.replaceChildren(
      make("h3", {}, "Key images"),
      ...numbers.map((number) => button(`slice ${number + 1}`, () => go(number))),
      button("Save key images (DICOM KOS)", () => this.save(), "save-key-images"),
    );
  }
}
