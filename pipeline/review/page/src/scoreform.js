// A pair is scored: six criteria of 1 to 5 on both sides, and a preference.

import { make } from "./dom.js";

const MEANS = ["unusable", "poor", "fair", "good", "excellent"];

export class ScoreForm {
  viewing = {};

  constructor(criteria, { forced_choice }) {
    this.criteria = criteria;
    this.sides = forced_choice ? ["left", "right"] : ["left", "neither", "right"];
  }

  get instructions() {
    const scale = MEANS.map((meaning, k) => `${k + 1} ${meaning}`).join(", ");
    return `One side is AI-derived. ${scale}.`;
  }

  series({ left, right }) {
    return { left: { sid: left }, right: { sid: right } };
  }

  empty({ item }) {
    return { item, left: {}, right: {}, preference: null };
  }

  // answer: so far; save: called at every mark.
  begin(answer, save) {
    Object.assign(this, { answer, save });
  }

  isComplete({ left, right, preference }) {
    const full = (side) => this.criteria.every((name) => side[name]);
    return full(left) && full(right) && preference !== null;
  }

  parts() {
    return [...this.criteria.map((name) => this.#likert(name)), this.#preference()];
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
      checked: this.answer[side][name] === value,
      "aria-label": `${name}, ${side}: ${value}, ${meaning}`,
      title: `${value}, ${meaning}`,
      onchange: () => {
        this.answer[side] = { ...this.answer[side], [name]: value };
        this.save();
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
          checked: this.answer.preference === side,
          onchange: () => {
            this.answer.preference = side;
            this.save();
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
}
