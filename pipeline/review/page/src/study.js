// The reader study: series without names, one reading after the other, saved at every mark, taken
// up where it was left. What is asked of a reader is a form's: of scores, or of marks of lesions.

import { CaseView } from "./case.js";
import { source } from "./data.js";
import { $, make, may, reader, showMessage } from "./dom.js";
import { LesionForm } from "./lesionform.js";
import { ScoreForm } from "./scoreform.js";

export class Study {
  constructor(criteria) {
    this.criteria = criteria;
  }

  async open() {
    if (!reader())
      return this.#told("Write your name, top right, then open the reader study again.");
    try {
      const reading = await source.json(`reading/${encodeURIComponent(reader())}`);
      this.items = reading.items;
      this.note = reading.note;
      this.form =
        reading.kind === "lesions" ? new LesionForm() : new ScoreForm(this.criteria, reading);
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
    const answer = item.score ?? this.form.empty(item);
    this.form.begin(answer, () => this.#save(item));
    this.view = new CaseView(this.form.series(item), {
      blinded: true,
      go: (step) => this.#go(step),
      side: (host) => this.#side(host),
      ...this.form.viewing,
    });
    globalThis.ldctView = this.view; // what tests ask for the state of the viewer
    await this.view.open();
  }

  #go(step) {
    const to = this.at + step;
    if (to < 0 || to >= this.items.length) return showMessage("no more to read");
    this.at = to;
    return this.#show();
  }

  #side(host) {
    const done = this.items.filter((each) => each.complete).length;
    this.progress = make(
      "p",
      { class: "told", id: "study-progress", role: "status" },
      `${done} of ${this.items.length} read; every mark is saved at once`,
    );
    host.replaceChildren(
      make("h3", {}, `Reading ${this.at + 1} of ${this.items.length}`),
      make("p", { class: "told" }, this.form.instructions),
      this.note ? make("p", { class: "flags", id: "study-note" }, this.note) : "",
      ...this.form.parts(),
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

  // One at a time and in order, so that the last mark is the last line of the record; "saved" is
  // only said where no later mark still waits.
  #save(item) {
    const answer = structuredClone(this.form.answer);
    const { progress } = this;
    progress.textContent = "saving…";
    const saving = (this.saving ?? Promise.resolve()).then(async () => {
      let outcome = "NOT SAVED";
      try {
        await source.post(`reading/${encodeURIComponent(reader())}`, answer);
        item.score = answer;
        item.complete = this.form.isComplete(answer);
        outcome = item.complete ? "complete and saved" : "saved";
      } catch (error) {
        showMessage(`NOT SAVED: ${error.message}`);
      }
      if (this.saving === saving) progress.textContent = outcome;
    });
    this.saving = saving;
  }
}
