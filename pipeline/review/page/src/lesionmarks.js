// The lesions that a reader marked, beside the panels: where, how sure, and away with them again.

import { make, showMessage } from "./dom.js";

export const MEANS = ["hardly suspicious", "rather not", "perhaps", "probably", "certainly a lesion"];

export class LesionMarks {
  #shown = null; // the version that is on the screen
  #listed = ""; // which places have a section

  // saved: marks as { at_mm, rating }; changed: called with all marks after each change.
  constructor(viewer, saved, changed) {
    Object.assign(this, { viewer, saved, changed });
  }

  get marks() {
    return this.viewer.state.marks;
  }

  async load() {
    const direction = "slices";
    this.marks.start(
      this.saved.map(({ at_mm, rating }) => ({ kind: "lesion", direction, points: [at_mm], rating })),
    );
    this.#shown = this.marks.version;
    this.viewer.marksChanged();
  }

  undo() {
    if (!this.marks.undo()) showMessage("nothing to undo");
    this.viewer.marksChanged();
  }

  // The first mark without a rating gets it; whether there was one.
  rate(rating) {
    const open = this.marks.list.findIndex((mark) => !mark.rating);
    if (open >= 0) this.#rate(open, rating);
    return open >= 0;
  }

  #rate(k, rating) {
    this.marks.replace(this.marks.list.map((mark, at) => (at === k ? { ...mark, rating } : mark)));
    this.viewer.marksChanged();
  }

  show(host) {
    if (!host || this.#shown === null) return;
    const { list, version } = this.marks;
    this.#list(host);
    if (version === this.#shown) return;
    this.#shown = version;
    this.changed(list.map(({ points, rating }) => ({ at_mm: points[0], rating: rating ?? null })));
  }

  // Sections are made again only where places changed: a button that is pressed keeps the focus.
  #list(host) {
    const { list } = this.marks;
    const places = list.map(({ points }) => points[0].join()).join(";");
    if (places !== this.#listed) {
      this.#listed = places;
      host.replaceChildren(...list.map((mark, k) => this.#section(mark, k)));
    }
    list.forEach(({ rating }, k) =>
      host.querySelectorAll(`input[name="rating ${k + 1}"]`).forEach((input) => {
        input.checked = Number(input.value) === rating;
      }),
    );
  }

  #section({ points }, k) {
    const number = k + 1;
    const [place] = points;
    const button = (text, act, label) =>
      make("button", { type: "button", onclick: act, "aria-label": label }, text);
    const show = () => this.viewer.moveTo(place);
    const remove = () => {
      this.marks.remove(k);
      this.viewer.marksChanged();
    };
    return make(
      "section",
      { class: "mark-figures", "aria-label": `lesion ${number}` },
      make(
        "h3",
        {},
        `${number}: slice ${this.viewer.reference.stacks.slices.nearest(place).index + 1} `,
        button("show", show, `show mark ${number}`),
        button("×", remove, `remove mark ${number}`),
      ),
      make(
        "fieldset",
        { class: "likert" },
        make("legend", { class: "unseen" }, `how sure, mark ${number}`),
        ...MEANS.map((meaning, at) => this.#choice(number, at + 1, meaning)),
      ),
    );
  }

  #choice(number, value, meaning) {
    return make(
      "label",
      { title: meaning },
      make("input", {
        type: "radio",
        name: `rating ${number}`,
        value,
        "aria-label": `mark ${number}: ${value}, ${meaning}`,
        onchange: () => this.#rate(number - 1, value),
      }),
      String(value),
    );
  }
}
