// Lesions are marked in one series at a time: a point and how sure the reader is.

import { $, make, showMessage } from "./dom.js";
import { LesionMarks, MEANS } from "./lesionmarks.js";

const SCALE = MEANS.map((meaning, k) => `${k + 1} ${meaning}`).join(", ");

export class LesionForm {
  instructions =
    "Mark every place that may be a lesion: click it, or press Enter for the crosshair, move it by " +
    `the arrows and press Enter again. Then say how sure you are: ${SCALE}. Dragging sets the window.`;

  // What the case's view is opened with.
  viewing = {
    tools: ["lesion", "window", "scroll", "pan", "crosshair"],
    marking: (viewer) => {
      this.marks = new LesionMarks(viewer, this.answer.marks, (marks) => this.#changed(marks));
      return this.marks;
    },
  };

  series({ image }) {
    return { image: { sid: image } };
  }

  empty({ item }) {
    return { item, marks: [], ended: false };
  }

  begin(answer, save) {
    Object.assign(this, { answer, save });
  }

  isComplete({ ended }) {
    return ended;
  }

  // A mark that is added after the end opens the reading again.
  #changed(marks) {
    this.answer = { ...this.answer, marks, ended: false };
    this.#button();
    this.save();
  }

  parts() {
    this.ending = make("button", { type: "button", id: "end-reading", onclick: () => this.#end() });
    this.#button();
    return [make("div", { class: "buttons" }, this.ending)];
  }

  #button() {
    const { marks, ended } = this.answer;
    const found = marks.length === 1 ? "1 mark" : `${marks.length} marks`;
    this.ending.textContent = ended ? `ended with ${found}` : `End this reading: ${found}, no more`;
    this.ending.disabled = ended;
  }

  #end() {
    const open = this.answer.marks.findIndex(({ rating }) => rating === null);
    if (open >= 0) return showMessage(`rate mark ${open + 1} first, 1 to 5`);
    this.answer = { ...this.answer, ended: true };
    this.#button();
    this.save();
    $("#main").focus();
  }
}
