// The reader study: two sides without names, scored; saved at every mark, taken up where it was
// left.

import { CaseView } from "./case.js";
import { source } from "./data.js";
import { $, make, may, reader, showMessage } from "./dom.js";

const MEANS = ["unusable", "poor", "fair", "good", "excellent"];

export class Study {
  constructor(criteria) {
    this.criteria = criteria;
  }

  async open() {
    if (!reader())
      return this.#told("Write your name, top right, then open the reader study again.");
    try {
      const reading = await source.json(`reading/${reader()}`);
      this.items = reading.items;
      this.note = reading.note;
      this.sides = reading.forced_choice ? ["left", "right"] : ["left", "neither", "right"];
    } catch (error) {
      return this.#told(error.message);
    }
    const open = this.items.findIndex((item) => !item.complete);
    this.at = open < 0 ? this.items.length - 1 : open;
    if (open < 0) showMessage("all read; any can be read again");
    await this.#show();
  }

  #told(text) {
    $("#main").replaceChildren(
      make("div", { class: "list" }, make("h2", {}, "Reader study"), make("p", {}, text)),
    );
  }

  close() {
    this.view?.close();
  }

  async #show() {
    this.close();
    const item = this.items[this.at];
    this.score = item.score ?? { item: item.item, left: {}, right: {}, preference: null };
    const series = { left: { sid: item.left }, right: { sid: item.right } };
    this.view = new CaseView(series, {
      blinded: true,
      go: (step) => this.#go(step),
      side: (host) => this.#form(host, item),
    });
    await this.view.open();
  }

  #go(step) {
    const to = this.at + step;
    if (to < 0 || to >= this.items.length) return showMessage("no more to read");
    this.at = to;
    return this.#show();
  }

  #form(host, item) {
    const done = this.items.filter((each) => each.complete).length;
    this.progress = make(
      "p",
      { class: "told" },
      `${done} of ${this.items.length} read; every mark is saved at once`,
    );
    host.replaceChildren(
      make("h3", {}, `Reading ${this.at + 1} of ${this.items.length}`),
      make(
        "p",
        { class: "told" },
        `One side is AI-derived. ${MEANS.map((meaning, k) => `${k + 1} ${meaning}`).join(", ")}.`,
      ),
      this.note ? make("p", { class: "flags", id: "study-note" }, this.note) : "",
      ...this.criteria.map((name) => this.#likert(name)),
      this.#preference(),
      this.progress,
      make(
        "div",
        { class: "buttons" },
        make("button", { type: "button", onclick: () => this.#go(-1) }, "Previous"),
        make("button", { type: "button", onclick: () => this.#go(1) }, "Next"),
        may("admin") && done === this.items.length
          ? make("a", { href: "/api/readings.csv", download: "readings.csv" }, "CSV of all readings")
          : "",
      ),
    );
  }

  #likert(name) {
    const rows = ["left", "right"].map((side) =>
      make(
        "tr",
        {},
        make("th", {}, side),
        ...MEANS.map((meaning, k) => make("td", {}, this.#mark(name, side, k + 1, meaning))),
      ),
    );
    return make(
      "fieldset",
      { class: "likert", id: `likert-${name.replace(" ", "-")}` },
      make("legend", {}, name),
      make("table", {}, make("tbody", {}, ...rows)),
    );
  }

  #mark(name, side, value, meaning) {
    return make("input", {
      type: "radio",
      name: `${name} ${side}`,
      value,
      checked: this.score[side][name] === value,
      "aria-label": `${name}, ${side}: ${value}, ${meaning}`,
      title: `${value}, ${meaning}`,
      onchange: () => {
        this.score[side] = { ...this.score[side], [name]: value };
        this.#save();
      },
    });
  }

  #preference() {
    const choices = this.sides.map((side) =>
      make(
        "label",
        {},
        make("input", {
          type: "radio",
          name: "preference",
          value: side,
          checked: this.score.preference === side,
          onchange: () => {
            this.score.preference = side;
            this.#save();
          },
        }),
        side,
      ),
    );
    return make(
      "fieldset",
      { class: "likert", id: "preference" },
      make("legend", {}, this.sides.length === 2 ? "better side (one must be chosen)" : "preferred"),
      ...choices,
    );
  }

  // One at a time and in order, so that the last mark is the last line of the record.
  #save() {
    const score = structuredClone(this.score);
    const item = this.items[this.at];
    this.saving = (this.saving ?? Promise.resolve()).then(async () => {
      try {
        await source.post(`reading/${reader()}`, score);
        item.score = score;
        const full = (side) => this.criteria.every((name) => side[name]);
        item.complete = full(score.left) && full(score.right) && score.preference !== null;
        this.progress.textContent = item.complete ? "complete and saved" : "saved";
      } catch (error) {
        showMessage(`NOT SAVED: ${error.message}`);
      }
    });
  }
}
